//! Configures and opens a session.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Streaming, metadata::MetadataMap};

use super::{
    AudioFormat, Session, SessionError, ledger::Ledger, receiver::SessionReceiver, resume::Resumer,
    sender::SessionSender, shared::Shared,
};
use crate::{
    call_error::{CallError, request_id},
    client::{Client, name_model},
    v1::{
        OpenSession, Opened, OutputOptions, Pacing, Priority, StreamCompositeRequest,
        StreamCompositeResponse, stream_composite_request, stream_composite_response::Message,
    },
};

/// Messages that may wait between a sender and the connection. Few, so that only messages that the connection has
/// already taken can precede an interruption.
const OUTGOING: usize = 2;

/// The configuration of a session; made by [`Client::session`].
///
/// The defaults: 16 kHz mono 16-bit samples in, the server's output format, frames as soon as they are made, no
/// idle frames, no echo.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `open` is awaited"]
pub struct SessionBuilder {
    client: Client,
    pub(super) format: AudioFormat,
    open: OpenSession,
    metadata: MetadataMap,
    /// Zero: a lost session has ended.
    pub(super) resume_within: Duration,
}

/// A session as one connection knows it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) outgoing: mpsc::Sender<StreamCompositeRequest>,
    pub(super) last_word: oneshot::Sender<StreamCompositeRequest>,
    pub(super) answers: Streaming<StreamCompositeResponse>,
    pub(super) opened: Opened,
    pub(super) request_id: Option<String>,
}

impl SessionBuilder {
    pub(crate) fn new(client: Client, model_id: &str) -> Self {
        Self {
            client,
            format: AudioFormat::mono_s16(16_000),
            open: OpenSession {
                model_id: model_id.to_owned(),
                ..OpenSession::default()
            },
            metadata: MetadataMap::new(),
            resume_within: Duration::ZERO,
        }
    }

    /// Sets the audio format.
    pub fn audio(mut self, format: AudioFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets the output format of frames.
    pub fn output(mut self, output: OutputOptions) -> Self {
        self.open.output = Some(output);
        self
    }

    /// Sets when frames leave the server.
    pub fn pacing(mut self, pacing: Pacing) -> Self {
        self.open.set_pacing(pacing);
        self
    }

    /// Also requests frames in silence and between segments.
    pub fn idle_frames(mut self, wanted: bool) -> Self {
        self.open.idle_frames = wanted;
        self
    }

    /// Requests, with each frame, the audio that plays while it is shown.
    pub fn audio_echo(mut self, wanted: bool) -> Self {
        self.open.audio_echo = wanted;
        self
    }

    /// Sets the position of the first frame on the avatar's timeline.
    pub fn start_frame_index(mut self, index: u64) -> Self {
        self.open.start_frame_index = index;
        self
    }

    /// Sets the priority of the frames.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.open.set_priority(priority);
        self
    }

    /// Sets request metadata, such as credentials or a request id.
    pub fn metadata(mut self, metadata: MetadataMap) -> Self {
        self.metadata = metadata;
        self
    }

    /// Lets the session go on over another connection, in the middle of a sentence, when its connection is lost: on the
    /// same server, or on another one that shares its `session.resume_key_file`. That is tried for so long, while
    /// somebody takes events; pushes wait meanwhile. [`Event::Resumed`](super::Event::Resumed) tells of it. Default: zero,
    /// a lost session has ended.
    pub fn resume_within(mut self, limit: Duration) -> Self {
        self.open.resumable = !limit.is_zero();
        self.resume_within = limit;
        self
    }

    /// Opens the session. Returns once the server has loaded the model and accepted.
    ///
    /// # Errors
    /// [`SessionError::Server`] if it refuses, or does not answer within the client's
    /// [answer timeout](crate::client::ConnectOptions::answer_timeout).
    pub async fn open(self) -> Result<Session, SessionError> {
        let connection = self.connect(Bytes::new()).await?;
        let Connection {
            outgoing,
            last_word,
            answers,
            opened,
            request_id,
        } = connection;
        let format = self.format;
        let mut ledger = Ledger::new(format, &opened);
        let resumer = (!self.resume_within.is_zero()).then(|| {
            let token = opened.resume_token.clone();
            Resumer::new(self, token)
        });
        if resumer.is_some() {
            ledger = ledger.remembering(format, &opened);
        }
        let shared = Arc::new(Shared::new(ledger, outgoing));
        let sender = SessionSender::new(Arc::clone(&shared), resumer.is_some(), last_word, format);
        let receiver = SessionReceiver::new(shared, answers, opened, request_id);
        Ok(Session {
            sender,
            receiver: receiver.resuming(resumer),
        })
    }

    /// Opens it over a new connection; with a token, where that says.
    pub(super) async fn connect(&self, resume_token: Bytes) -> Result<Connection, SessionError> {
        let limit = self.client.answer_timeout;
        match tokio::time::timeout(limit, self.connect_unbounded(resume_token)).await {
            Ok(opened) => opened,
            Err(_) => Err(SessionError::Server(CallError::no_answer(limit))),
        }
    }

    async fn connect_unbounded(&self, resume_token: Bytes) -> Result<Connection, SessionError> {
        let mut open = self.open.clone();
        self.format.describe(&mut open);
        open.resume_token = resume_token;
        let mut metadata = self.metadata.clone();
        name_model(&mut metadata, &open.model_id);
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let open = StreamCompositeRequest {
            message: Some(stream_composite_request::Message::Open(open)),
        };
        // The channel is fresh, so there is room.
        let _ = outgoing.try_send(open);
        let (last_word, mut last) = oneshot::channel();
        let last = std::iter::from_fn(move || last.try_recv().ok());
        let requests = ReceiverStream::new(requests).chain(tokio_stream::iter(last));
        let request = Request::from_parts(metadata, tonic::Extensions::default(), requests);
        let mut lip_sync = self.client.lip_sync();
        let response = lip_sync.stream_composite(request).await;
        let response = response.map_err(|status| SessionError::Server(status.into()))?;
        let request_id = request_id(response.metadata());
        let mut answers = response.into_inner();
        let first = answers.message().await.map_err(|status| {
            SessionError::Server(CallError::from(status).of_request(request_id.as_deref()))
        })?;
        let Some(Message::Opened(opened)) = first.and_then(|answer| answer.message) else {
            return Err(SessionError::Protocol {
                what: "the first message was not `opened`",
            });
        };
        Ok(Connection {
            outgoing,
            last_word,
            answers,
            opened,
            request_id,
        })
    }
}
