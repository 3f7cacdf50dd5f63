//! `StreamComposite`, by theme.

mod echo;
mod ends;
mod interruption;
mod killed;
mod kinds;
mod order;
mod realtime;
mod refusals;
mod rest;
mod resume;
mod samples;
mod silence;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use lipsync::client::Client;
use lipsync::v1::{
    self, audio_chunk::Audio, stream_composite_request::Message as Ask,
    stream_composite_response::Message as Answer,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use crate::support::{FakeLoader, Gate, TestServer, avatar, speech::to_bytes};

/// No answer takes so long.
const TOO_LONG: Duration = Duration::from_secs(60);

/// One session, driven by hand.
pub(super) struct Session {
    asks: Option<mpsc::UnboundedSender<v1::StreamCompositeRequest>>,
    answers: Streaming<v1::StreamCompositeResponse>,
}

impl Session {
    pub(super) async fn open(server: &TestServer, open: v1::OpenSession) -> Result<Self> {
        Self::over(&server.client().await?, open).await
    }

    /// On a connection that others use, too.
    pub(super) async fn over(client: &Client, open: v1::OpenSession) -> Result<Self> {
        let (asks, requests) = mpsc::unbounded_channel();
        let answers = client
            .lip_sync()
            .stream_composite(UnboundedReceiverStream::new(requests))
            .await?
            .into_inner();
        let mut session = Self {
            asks: Some(asks),
            answers,
        };
        session.ask(Ask::Open(open));
        Ok(session)
    }

    pub(super) fn ask(&mut self, message: Ask) {
        let request = v1::StreamCompositeRequest {
            message: Some(message),
        };
        // A send fails only after the server hung up, which the test sees in the answers.
        let _hung_up = self.asks.as_ref().map(|asks| asks.send(request));
    }

    pub(super) fn audio(&mut self, segment_id: u64, samples: &[i16]) {
        let audio = Some(Audio::Pcm(to_bytes(samples)));
        self.ask(Ask::Audio(v1::AudioChunk { segment_id, audio }));
    }

    pub(super) fn end(&mut self, segment_id: u64) {
        self.ask(Ask::EndSegment(v1::EndSegment { segment_id }));
    }

    pub(super) fn clear(&mut self, segment_id: Option<u64>) {
        self.ask(Ask::Clear(v1::Clear { segment_id }));
    }

    pub(super) fn half_close(&mut self) {
        self.asks = None;
    }

    pub(super) async fn next(&mut self) -> Result<Option<Answer>, Status> {
        let answer = timeout(TOO_LONG, self.answers.message()).await;
        let answer = answer.map_err(|_| Status::internal("no answer comes"))??;
        Ok(answer.map(|a| a.message.expect("every answer has a message")))
    }

    /// Everything until the stream ends well.
    pub(super) async fn rest(&mut self) -> Result<Vec<Answer>> {
        let mut all = Vec::new();
        while let Some(answer) = self.next().await? {
            all.push(answer);
        }
        Ok(all)
    }

    pub(super) async fn failure(&mut self) -> Result<Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => bail!("the stream ended well"),
                Err(status) => return Ok(status),
            }
        }
    }
}

pub(super) fn pcm_session(model: &str) -> v1::OpenSession {
    v1::OpenSession {
        model_id: model.into(),
        sample_rate_hz: 16_000,
        ..Default::default()
    }
}

pub(super) fn frames(answers: &[Answer]) -> Vec<&v1::CompositedFrame> {
    let mut frames = Vec::new();
    for answer in answers {
        if let Answer::Frame(frame) = answer {
            frames.push(frame);
        }
    }
    frames
}

pub(super) async fn fake_server(folder: &Path, yaml: &str) -> Result<(TestServer, Arc<Gate>)> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    Ok((
        TestServer::start(&yaml, folder, Arc::new(loader)).await?,
        gate,
    ))
}
