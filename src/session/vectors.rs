//! Sessions that all clients must see alike: `tests/data/session`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{
    AudioFormat, Event, Session, SessionError, ledger::Ledger, receiver::SessionReceiver,
    sender::SessionSender, shared::Shared,
};
use crate::v1::{
    Cleared, CompositedFrame, Opened, SegmentEnd, StreamCompositeRequest, Warning, audio_chunk,
    stream_composite_request, stream_composite_response::Message,
};

const VECTORS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/session/vectors.json"
));
/// More messages than any step sends.
const PLACES: usize = 64;

/// A session without a server: what it sends lies in `sent` and `last`.
struct Bench {
    session: Session,
    shared: Arc<Shared>,
    sent: mpsc::Receiver<StreamCompositeRequest>,
    last: oneshot::Receiver<StreamCompositeRequest>,
}

impl Bench {
    fn open(file: &Value) -> Result<Self> {
        let number = |key: &str| -> Result<u32> { Ok(u32::try_from(natural(file, key)?)?) };
        let opened = Opened {
            fps: number("fps")?,
            max_buffered_audio_s: number("max_buffered_audio_s")?,
            ..Opened::default()
        };
        let format = AudioFormat::mono_s16(number("rate_hz")?);
        let (outgoing, sent) = mpsc::channel(PLACES);
        let shared = Arc::new(Shared::new(Ledger::new(format, &opened), outgoing));
        let (last_word, last) = oneshot::channel();
        let session = Session {
            sender: SessionSender::new(Arc::clone(&shared), false, last_word, format),
            receiver: SessionReceiver::unconnected(Arc::clone(&shared), opened),
        };
        Ok(Self {
            session,
            shared,
            sent,
            last,
        })
    }

    async fn act(&mut self, act: &str, step: &Value) -> Result<Value> {
        Ok(match act {
            "push" => {
                let audio = vec![0; usize::try_from(natural(step, "n_bytes")?)?];
                match self.session.push_audio(audio).await {
                    Ok(segment_id) => json!(segment_id),
                    Err(SessionError::WindowFull { .. }) => json!("full"),
                    Err(SessionError::Closed) => json!("closed"),
                    Err(error) => return Err(error.into()),
                }
            }
            "end_segment" => json!(self.session.end_segment().await?),
            "clear" => {
                self.session.clear().await?;
                Value::Null
            }
            "finish" => {
                self.session.finish();
                Value::Null
            }
            other => anyhow::bail!("an unknown act: {other}"),
        })
    }

    /// What has left since it was asked last, neighbouring audio added up.
    fn sent(&mut self) -> Result<Value> {
        let mut sent: Vec<Value> = Vec::new();
        let queued = std::iter::from_fn(|| self.sent.try_recv().ok());
        let messages: Vec<_> = queued.chain(self.last.try_recv().ok()).collect();
        for request in messages {
            match request.message.context("a message")? {
                stream_composite_request::Message::Audio(chunk) => {
                    let Some(audio_chunk::Audio::Pcm(data)) = chunk.audio else {
                        anyhow::bail!("expected samples");
                    };
                    let before = sent
                        .last()
                        .filter(|last| last[0] == "audio" && last[1] == chunk.segment_id)
                        .and_then(|last| last[2].as_u64());
                    if before.is_some() {
                        sent.pop();
                    }
                    let n_bytes = before.unwrap_or(0) + data.len() as u64;
                    sent.push(json!(["audio", chunk.segment_id, n_bytes]));
                }
                stream_composite_request::Message::EndSegment(end) => {
                    sent.push(json!(["end_segment", end.segment_id]));
                }
                stream_composite_request::Message::Clear(clear) => {
                    assert_eq!(clear.segment_id, None);
                    sent.push(json!(["clear"]));
                }
                stream_composite_request::Message::Open(_) => anyhow::bail!("opened again"),
            }
        }
        Ok(sent.into())
    }

    fn receive(&self, kind: &str, step: &Value) -> Result<&'static str> {
        let message = message(kind, step)?;
        Ok(match self.session.receiver.event(message.clone()) {
            Ok(None) => "dropped",
            Ok(Some(event)) => {
                assert_eq!(Some(content(event)), message);
                "event"
            }
            Err(SessionError::Protocol { .. }) => "fault",
            Err(error) => return Err(error.into()),
        })
    }

    async fn step(&mut self, step: &Value) -> Result<()> {
        let gives = if let Some(act) = step["act"].as_str() {
            let gives = self.act(act, step).await?;
            assert_eq!(self.sent()?, step["sends"], "sends");
            gives
        } else {
            let kind = step["server"].as_str().context("an act or a message")?;
            json!(self.receive(kind, step)?)
        };
        assert_eq!(gives, step["gives"], "gives");
        if gives != "fault" {
            assert_eq!(json!(self.shared.ledger().n_held()), step["held"], "held");
        }
        Ok(())
    }
}

fn natural(of: &Value, key: &str) -> Result<u64> {
    of[key].as_u64().context("a natural number")
}

fn message(kind: &str, step: &Value) -> Result<Option<Message>> {
    Ok(Some(match kind {
        "frame" => Message::Frame(CompositedFrame {
            segment_id: step["segment_id"].as_u64().unwrap_or(0),
            audio_time_us: step["audio_time_us"].as_u64(),
            generated: step["generated"].as_bool().unwrap_or(false),
            ..CompositedFrame::default()
        }),
        "segment_end" => Message::SegmentEnd(SegmentEnd {
            segment_id: natural(step, "segment_id")?,
            n_frames: 1,
        }),
        "cleared" => Message::Cleared(Cleared::default()),
        "warning" => Message::Warning(Warning {
            code: step["code"].as_str().context("a code")?.to_owned(),
            text: "Something to know.".to_owned(),
        }),
        "opened" => Message::Opened(Opened::default()),
        "unknown" => return Ok(None),
        other => anyhow::bail!("an unknown message: {other}"),
    }))
}

fn content(event: Event) -> Message {
    match event {
        Event::Frame(frame) => Message::Frame(frame),
        Event::SegmentEnd(end) => Message::SegmentEnd(end),
        Event::Cleared(cleared) => Message::Cleared(cleared),
        Event::Warning(warning) => Message::Warning(warning),
        Event::Resumed(opened) => Message::Opened(opened),
    }
}

#[tokio::test]
async fn a_session_is_what_the_vectors_say() -> Result<()> {
    let file: Value = serde_json::from_str(VECTORS)?;
    let vectors = file["vectors"].as_array().context("vectors")?;
    assert!(!vectors.is_empty());
    for vector in vectors {
        let mut bench = Bench::open(&file)?;
        for (n, step) in vector["steps"]
            .as_array()
            .context("steps")?
            .iter()
            .enumerate()
        {
            println!("{} step {n}: {step}", vector["name"]);
            bench.step(step).await?;
        }
    }
    Ok(())
}
