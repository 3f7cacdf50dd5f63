//! One user who talks over live sessions: audio in as it is spoken, frames out as they are made.
//!
//! One loop sends and receives, so that a stream is never written from two places: it waits for
//! whatever comes first, the next piece of audio that is due or the next message of the server.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use lipsync::v1::{
    CompositedFrame, EndSegment, OpenSession, StreamCompositeRequest, StreamCompositeResponse,
    lip_sync_client::LipSyncClient, stream_composite_request, stream_composite_response,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    check::Fault,
    profile::{SPEAKING, Utterance, frames_within},
    segment::{Delivery, Segment},
    speaker::Speaker,
    stats::{Clock, Outcome, Sample, SharedStats},
    unary_user::RETRY_AFTER,
};

/// Messages that wait to be written to the connection.
const OUTBOX: usize = 64;

/// One user.
#[derive(Debug, Clone)]
pub struct StreamUser {
    /// The server.
    pub client: LipSyncClient<Channel>,
    /// What is said.
    pub speaker: Arc<Speaker>,
    /// Frames per second at which it is spoken.
    pub fps: u32,
    /// Frames of audio in a chunk.
    pub chunk_frames: u32,
    /// Longest wait for a session to open, and for the last frames.
    pub timeout: Duration,
    /// The time of the run.
    pub clock: Clock,
    /// Where samples go.
    pub stats: SharedStats,
}

/// Why a session is over.
enum Ending {
    /// The run is over, and so are the frames.
    Finished,
    /// The stream broke.
    Broken(Status),
}

/// What a user says next.
enum Script {
    /// At set times.
    Conversation(std::iter::Peekable<Box<dyn Iterator<Item = Utterance> + Send>>),
    /// Four seconds of speech at once, again whenever the last is answered.
    Saturate,
}

impl StreamUser {
    /// Open loop: speaks each utterance at its time.
    pub async fn converse(self, utterances: Box<dyn Iterator<Item = Utterance> + Send>) {
        self.sessions(Script::Conversation(utterances.peekable()))
            .await;
    }

    /// Closed loop: hands in an utterance at once and waits for its frames.
    pub async fn saturate(self) {
        self.sessions(Script::Saturate).await;
    }

    /// Opens sessions until the run is over; one is enough unless it breaks.
    async fn sessions(self, mut script: Script) {
        while self.clock.now() < self.clock.end {
            let status = match self.open().await {
                Ok(session) => match session.run(&mut script).await {
                    Ending::Finished => return,
                    Ending::Broken(status) => status,
                },
                Err(status) => {
                    // Nothing was under way: the refusal itself is what is counted.
                    let now = self.clock.now();
                    self.count(now, now, 1, Outcome::Status(status.code()));
                    status
                }
            };
            self.stats.lock().keep_status(status);
            let retry = self.clock.now() + RETRY_AFTER;
            self.clock.sleep_until(retry.min(self.clock.end)).await;
        }
    }

    async fn open(&self) -> Result<Session<'_>, Status> {
        let late = || Status::deadline_exceeded("the session did not open in time");
        tokio::time::timeout(self.timeout, self.open_in_any_time())
            .await
            .map_err(|_| late())?
    }

    async fn open_in_any_time(&self) -> Result<Session<'_>, Status> {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let open: OpenSession = self.speaker.open();
        let open = request(stream_composite_request::Message::Open(open));
        // The channel is new and empty, so there is room.
        let _ = outbox.try_send(open);
        let mut inbox = self
            .client
            .clone()
            .stream_composite(ReceiverStream::new(messages))
            .await?
            .into_inner();
        let opened = match inbox.message().await?.and_then(|answer| answer.message) {
            Some(stream_composite_response::Message::Opened(opened)) => opened,
            _ => return Err(Status::data_loss("the first message was not `opened`")),
        };
        let look_ahead = u64::from(opened.look_ahead_ms) * u64::from(self.speaker.model.fps);
        Ok(Session {
            user: self,
            outbox: Some(outbox),
            inbox,
            look_ahead_frames: look_ahead.div_ceil(1000),
            speeches: VecDeque::new(),
            next_segment_id: 1,
            n_received: 0,
        })
    }

    fn count(&self, intended: Duration, due: Duration, n_frames: u64, outcome: Outcome) {
        let now = self.clock.now();
        self.stats.lock().record(&Sample {
            intended,
            sent: None,
            done: now,
            due,
            n_frames,
            bytes_up: 0,
            bytes_down: 0,
            outcome,
        });
    }
}

/// A segment under way.
struct Speech {
    id: u64,
    times: Segment,
    /// Place of its first frame in what the user says.
    first_frame: u64,
    n_chunks_sent: u64,
    n_received: u64,
    /// When it was cut off by the end of the run: its last frames cannot be made before.
    cut_at: Option<Duration>,
}

impl Speech {
    fn fully_sent(&self) -> bool {
        self.n_chunks_sent == self.times.n_chunks()
    }

    fn ready_at(&self, n: u64) -> Duration {
        let ready = self.times.ready_at(n);
        match self.cut_at {
            Some(cut) if n + self.times.look_ahead_frames >= self.times.n_frames => cut.max(ready),
            _ => ready,
        }
    }
}

struct Session<'a> {
    user: &'a StreamUser,
    /// `None` once nothing more will be said.
    outbox: Option<mpsc::Sender<StreamCompositeRequest>>,
    inbox: Streaming<StreamCompositeResponse>,
    look_ahead_frames: u64,
    /// Those whose end has not been announced, oldest first.
    speeches: VecDeque<Speech>,
    next_segment_id: u64,
    n_received: u64,
}

impl Session<'_> {
    async fn run(mut self, script: &mut Script) -> Ending {
        let clock = self.user.clock;
        let ending = loop {
            self.begin_speech(script);
            let next = self.next_send(script);
            let outbox = self.outbox.clone();
            let send = async {
                match (outbox, next) {
                    (Some(outbox), Some(at)) => {
                        clock.sleep_until(at).await;
                        outbox.reserve_owned().await
                    }
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.inbox.message() => match message {
                    Ok(Some(message)) => self.receive(&message),
                    Ok(None) if self.outbox.is_none() => break Ending::Finished,
                    Ok(None) => break Ending::Broken(Status::data_loss("the stream ended early")),
                    Err(status) => break Ending::Broken(status),
                },
                place = send => match place {
                    Ok(place) => self.send(place),
                    // The connection stopped reading; the inbox says why. Say no more.
                    Err(_) => self.outbox = None,
                },
                () = clock.sleep_until(clock.end), if self.outbox.is_some() => self.hang_up(),
                () = clock.sleep_until(clock.end + self.user.timeout) => break Ending::Finished,
            }
        };
        self.count_outstanding(match &ending {
            Ending::Finished => Outcome::Unfinished,
            Ending::Broken(status) => Outcome::Status(status.code()),
        });
        ending
    }

    /// Starts the next utterance when it is due.
    fn begin_speech(&mut self, script: &mut Script) {
        let now = self.user.clock.now();
        if self.outbox.is_none() || self.speeches.back().is_some_and(|s| !s.fully_sent()) {
            return;
        }
        let (utterance, delivery) = match script {
            Script::Conversation(utterances) => {
                match utterances.next_if(|utterance| utterance.at <= now) {
                    Some(utterance) => (utterance, Delivery::Live),
                    None => return,
                }
            }
            Script::Saturate if self.speeches.is_empty() && now < self.user.clock.end => {
                let utterance = Utterance {
                    at: now,
                    first_frame: self.n_received,
                    n_frames: frames_within(SPEAKING, self.user.speaker.model.fps).max(1),
                };
                (utterance, Delivery::AtOnce)
            }
            Script::Saturate => return,
        };
        self.speeches.push_back(Speech {
            id: self.next_segment_id,
            times: Segment {
                start: utterance.at,
                n_frames: utterance.n_frames,
                chunk_frames: u64::from(self.user.chunk_frames),
                fps: self.user.fps,
                look_ahead_frames: self.look_ahead_frames,
                delivery,
            },
            first_frame: utterance.first_frame,
            n_chunks_sent: 0,
            n_received: 0,
            cut_at: None,
        });
        self.next_segment_id += 1;
    }

    /// When there will be something to send.
    fn next_send(&self, script: &mut Script) -> Option<Duration> {
        match self.speeches.back() {
            Some(speech) if !speech.fully_sent() => {
                Some(speech.times.chunk_at(speech.n_chunks_sent))
            }
            _ => match script {
                Script::Conversation(utterances) => utterances.peek().map(|next| next.at),
                Script::Saturate => None,
            },
        }
    }

    /// Sends the next chunk, and the end of its segment after the last.
    fn send(&mut self, place: mpsc::OwnedPermit<StreamCompositeRequest>) {
        let user = self.user;
        let Some(speech) = self.speeches.back_mut().filter(|s| !s.fully_sent()) else {
            return; // An utterance is due: `begin_speech` is next.
        };
        let (first, n) = speech.times.chunk(speech.n_chunks_sent);
        let chunk = user.speaker.chunk(speech.id, speech.first_frame + first, n);
        let message = request(stream_composite_request::Message::Audio(chunk));
        let intended = speech.times.chunk_at(speech.n_chunks_sent);
        user.stats
            .lock()
            .record_upload(intended, message.encoded_len() as u64);
        let outbox = place.send(message);
        speech.n_chunks_sent += 1;
        if speech.fully_sent() {
            let end = EndSegment {
                segment_id: speech.id,
            };
            // Without room now, the next segment or the end of the stream says the same.
            let _ = outbox.try_send(request(stream_composite_request::Message::EndSegment(end)));
        }
    }

    /// The run is over: ends what is being said and closes this side of the stream.
    fn hang_up(&mut self) {
        self.outbox = None;
        if let Some(speech) = self.speeches.back_mut().filter(|s| !s.fully_sent()) {
            let sent = speech.n_chunks_sent * speech.times.chunk_frames;
            speech.times.n_frames = sent;
            speech.cut_at = Some(self.user.clock.end);
            if sent == 0 {
                self.speeches.pop_back();
            }
        }
    }

    fn receive(&mut self, message: &StreamCompositeResponse) {
        use stream_composite_response::Message;
        match &message.message {
            Some(Message::Frame(frame)) => self.receive_frame(frame, message.encoded_len()),
            Some(Message::SegmentEnd(end)) => {
                let place = self.speeches.iter().position(|s| s.id == end.segment_id);
                if let Some(speech) = place.and_then(|place| self.speeches.remove(place)) {
                    self.count_missing(&speech, Outcome::Invalid(Fault::Count));
                }
            }
            _ => {}
        }
    }

    fn receive_frame(&mut self, frame: &CompositedFrame, n_bytes: usize) {
        let user = self.user;
        let now = user.clock.now();
        let index = self.n_received;
        self.n_received += 1;
        let speech = self
            .speeches
            .iter_mut()
            .find(|speech| speech.id == frame.segment_id);
        let Some(speech) = speech else {
            user.count(now, now, 1, Outcome::Invalid(Fault::Order));
            return;
        };
        let n = speech.n_received;
        speech.n_received += 1;
        if n >= speech.times.n_frames {
            user.count(now, now, 1, Outcome::Invalid(Fault::Count));
            return;
        }
        let outcome = user
            .speaker
            .expected()
            .check_frame(frame, index)
            .map_or_else(Outcome::Invalid, |()| Outcome::Frames);
        let ready = speech.ready_at(n);
        let mut stats = user.stats.lock();
        stats.record(&Sample {
            intended: ready,
            sent: None,
            done: now,
            due: speech.times.due_at(n),
            n_frames: 1,
            bytes_up: 0,
            bytes_down: n_bytes as u64,
            outcome,
        });
        if n == 0 {
            stats.record_first_frame(speech.times.start, now);
        }
    }

    fn count_outstanding(&mut self, outcome: Outcome) {
        while let Some(speech) = self.speeches.pop_front() {
            self.count_missing(&speech, outcome);
        }
    }

    /// Counts the frames of `speech` that never came.
    fn count_missing(&self, speech: &Speech, outcome: Outcome) {
        for n in speech.n_received..speech.times.n_frames {
            let (ready, due) = (speech.ready_at(n), speech.times.due_at(n));
            self.user.count(ready, due, 1, outcome);
        }
    }
}

fn request(message: stream_composite_request::Message) -> StreamCompositeRequest {
    StreamCompositeRequest {
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cut_off_by_the_end_of_the_run_are_ready_then() {
        let speech = Speech {
            id: 1,
            times: Segment {
                start: Duration::ZERO,
                n_frames: 16,
                chunk_frames: 8,
                fps: 25,
                look_ahead_frames: 4,
                delivery: Delivery::Live,
            },
            first_frame: 0,
            n_chunks_sent: 2,
            n_received: 0,
            cut_at: Some(Duration::from_millis(900)),
        };
        assert_eq!(speech.ready_at(11), Duration::from_millis(640));
        assert_eq!(speech.ready_at(12), Duration::from_millis(900));
    }
}
