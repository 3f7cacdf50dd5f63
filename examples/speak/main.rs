//! Speaks a WAV file through an avatar and writes a film that common players show with sound.
//!
//! With a server running (`cargo run --release` in another terminal):
//!
//! ```text
//! cargo run --release --example speak
//! cargo run --release --example speak -- --audio my.wav --out my.avi
//! ```
//!
//! It is a live session as a client of a conversation would hold it: audio goes in by chunks while
//! frames come out. Here the audio is on disk, so it goes in as fast as frames come back.

mod avi;

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use avi::{AviWriter, Sound};
use clap::Parser;
use lipsync::{
    client::Client,
    v1::{
        AudioChunk, CompositedFrame, EndSegment, OpenSession, Opened, OutputFormat, OutputOptions,
        StreamCompositeRequest, StreamCompositeResponse, audio_chunk, stream_composite_request,
        stream_composite_response,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Audio is sent by pieces of this length.
const CHUNK: Duration = Duration::from_millis(200);
/// The session's only segment.
const SEGMENT_ID: u64 = 1;

/// Speaks a WAV file through an avatar on a running server.
#[derive(Parser)]
struct Args {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:50051")]
    addr: String,
    /// Who speaks.
    #[arg(long, default_value = "mira")]
    model: String,
    /// What is said: WAV, mono or stereo [default: the first sample in assets/speech].
    #[arg(long)]
    audio: Option<PathBuf>,
    /// The film.
    #[arg(long, default_value = "speak.avi")]
    out: PathBuf,
    /// JPEG quality of its pictures; 0 = the server's.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    quality: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let path = match &args.audio {
        Some(path) => path.clone(),
        None => first_sample()?,
    };
    let speech = Speech::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let client = Client::connect(&args.addr).await.with_context(|| {
        format!(
            "no server answers at {}: start one with `cargo run --release` in another terminal",
            args.addr
        )
    })?;

    let started = Instant::now();
    let (filmed, filmed_so_far) = watch::channel(Duration::ZERO);
    let (opened, mut answers) = open(&client, &args, &speech, filmed_so_far).await?;
    ensure!(opened.fps > 0, "the server announced 0 frames per second");
    let file =
        File::create(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let size = (opened.width, opened.height);
    let mut film = AviWriter::new(BufWriter::new(file), size, opened.fps, speech.sound())?;
    let mut first_frame_after = None;
    let mut n_frames = 0;
    while let Some(answer) = answers
        .message()
        .await
        .context("the server ended the stream")?
    {
        let Some(frame) = frame_of(answer) else {
            continue;
        };
        first_frame_after.get_or_insert_with(|| started.elapsed());
        film.write_frame(&frame.data)?;
        film.write_sound(&speech.of_frame(n_frames, opened.fps))?;
        n_frames += 1;
        filmed.send_replace(Duration::from_secs(n_frames as u64) / opened.fps);
        eprint!("\r{n_frames} frames");
    }
    eprintln!();
    film.finish()?.flush()?;

    let took = started.elapsed().as_secs_f64();
    eprintln!(
        "{}: {n_frames} frames, {:.1} s of film made in {took:.1} s ({:.0} frames/s), first frame after {:.0} ms",
        args.out.display(),
        n_frames as f64 / f64::from(opened.fps),
        n_frames as f64 / took,
        first_frame_after.unwrap_or_default().as_secs_f64() * 1e3,
    );
    Ok(())
}

/// Opens a session and starts to send the speech, no faster than `filmed` grows.
async fn open(
    client: &Client,
    args: &Args,
    speech: &Speech,
    mut filmed: watch::Receiver<Duration>,
) -> anyhow::Result<(Opened, Streaming<StreamCompositeResponse>)> {
    use stream_composite_request::Message;
    let (sender, messages) = mpsc::channel(4);
    sender
        .send(request(Message::Open(OpenSession {
            model_id: args.model.clone(),
            sample_rate_hz: speech.rate_hz,
            channels: u32::from(speech.n_channels),
            output: Some(OutputOptions {
                format: OutputFormat::Jpeg.into(),
                quality: args.quality,
                region_only: false,
            }),
            ..OpenSession::default()
        })))
        .await?;
    let mut answers = client
        .lip_sync()
        .stream_composite(ReceiverStream::new(messages))
        .await
        .context("the server refused the session")?
        .into_inner();
    let first = answers
        .message()
        .await
        .context("the server refused the session")?;
    let Some(stream_composite_response::Message::Opened(opened)) = first.and_then(|m| m.message)
    else {
        bail!("the server did not open the session");
    };

    // A server that holds more audio than this ends the stream, so stay well below.
    let may_lead = Duration::from_secs(u64::from(opened.max_buffered_audio_s)).div_f64(2.0);
    let chunks = speech.chunks();
    tokio::spawn(async move {
        for (i, chunk) in (0_u32..).zip(chunks) {
            let may_send = |filmed: &Duration| CHUNK * i <= *filmed + may_lead;
            if filmed.wait_for(may_send).await.is_err() {
                return;
            }
            let audio = AudioChunk {
                segment_id: SEGMENT_ID,
                audio: Some(audio_chunk::Audio::Pcm(chunk.into())),
            };
            // A closed channel means that the session is over; `answers` says why.
            if sender.send(request(Message::Audio(audio))).await.is_err() {
                return;
            }
        }
        let end = EndSegment {
            segment_id: SEGMENT_ID,
        };
        let _ = sender.send(request(Message::EndSegment(end))).await;
        // Dropping the sender closes this side of the stream: finish what is queued, then end.
    });
    Ok((opened, answers))
}

fn request(message: stream_composite_request::Message) -> StreamCompositeRequest {
    StreamCompositeRequest {
        message: Some(message),
    }
}

fn frame_of(answer: StreamCompositeResponse) -> Option<CompositedFrame> {
    match answer.message? {
        stream_composite_response::Message::Frame(frame) => Some(frame),
        stream_composite_response::Message::Warning(warning) => {
            eprintln!("\nwarning: {}", warning.text);
            None
        }
        _ => None,
    }
}

/// The first of the repository's samples by name.
fn first_sample() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/speech");
    let mut samples: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .collect();
    samples.sort();
    samples
        .into_iter()
        .next()
        .context("no sample speech: name a file with --audio")
}

/// What is said.
struct Speech {
    /// Interleaved.
    samples: Vec<i16>,
    rate_hz: u32,
    n_channels: u16,
}

impl Speech {
    /// Reads a WAV file of whole or float samples.
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut reader = hound::WavReader::open(path)?;
        let spec = reader.spec();
        ensure!(
            (1..=2).contains(&spec.channels),
            "{} channels; one or two are understood",
            spec.channels
        );
        let samples = match spec.sample_format {
            hound::SampleFormat::Float => reader
                .samples::<f32>()
                .map(|sample| Ok(from_f32(sample?)))
                .collect::<anyhow::Result<_>>()?,
            hound::SampleFormat::Int => {
                let scale = (2.0_f32).powi(i32::from(spec.bits_per_sample) - 1);
                reader
                    .samples::<i32>()
                    .map(|sample| Ok(from_f32(sample? as f32 / scale)))
                    .collect::<anyhow::Result<_>>()?
            }
        };
        Ok(Self {
            samples,
            rate_hz: spec.sample_rate,
            n_channels: spec.channels,
        })
    }

    fn sound(&self) -> Sound {
        Sound {
            rate_hz: self.rate_hz,
            n_channels: self.n_channels,
        }
    }

    /// The samples heard while frame `n` is shown, as bytes; silence once the speech is over.
    fn of_frame(&self, n: usize, fps: u32) -> Vec<u8> {
        let place =
            |n: usize| n * self.rate_hz as usize / fps as usize * usize::from(self.n_channels);
        (place(n)..place(n + 1))
            .flat_map(|i| self.samples.get(i).copied().unwrap_or(0).to_le_bytes())
            .collect()
    }

    /// The speech in pieces, as bytes.
    fn chunks(&self) -> Vec<Vec<u8>> {
        let per_second = self.rate_hz as usize * usize::from(self.n_channels);
        let n_samples = (per_second / 1000 * CHUNK.subsec_millis() as usize).max(2) / 2 * 2;
        self.samples
            .chunks(n_samples)
            .map(|chunk| chunk.iter().flat_map(|s| s.to_le_bytes()).collect())
            .collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast from float to integer saturates"
)]
fn from_f32(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_of_frames_is_the_speech_then_silence() {
        let speech = Speech {
            samples: (0..100).collect(),
            rate_hz: 100,
            n_channels: 2,
        };
        let heard: Vec<u8> = (0..14).flat_map(|n| speech.of_frame(n, 24)).collect();
        // 14 frames at 24 fps are 58 whole samples of two channels: the 50 that there are, and silence.
        let mut expected: Vec<u8> = (0_i16..100).flat_map(i16::to_le_bytes).collect();
        expected.resize(58 * 4, 0);
        assert_eq!(heard, expected);
    }

    #[test]
    fn chunks_hold_whole_samples_and_lose_nothing() {
        let speech = Speech {
            samples: (0..4_321).map(|i| i * 3).collect(),
            rate_hz: 11_025,
            n_channels: 1,
        };
        let joined: Vec<u8> = speech.chunks().concat();
        let whole: Vec<u8> = speech
            .samples
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .collect();
        assert_eq!(joined, whole);
    }

    #[test]
    fn float_samples_saturate() {
        assert_eq!(from_f32(1.0), i16::MAX);
        assert_eq!(from_f32(-1.0), i16::MIN);
        assert_eq!(from_f32(0.5), 16_384);
    }
}
