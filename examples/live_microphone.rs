//! Streams like a microphone: 20 ms of sound every 20 ms, and frames in real time.
//!
//! With a server running (`cargo run --release` in another terminal):
//!
//! ```text
//! cargo run --release --example live_microphone                        # a sample, as if it was spoken now
//! arecord -q -f S16_LE -r 16000 | cargo run --release --example live_microphone -- --audio -
//! ```
//!
//! Enter interrupts, as a user who starts to speak would, and so does `--interrupt-after`. Frames that were
//! not shown yet are dropped, and later speech is another utterance. The status line shows the lag of
//! the face behind the voice. `--out` writes a film with sound.

#[path = "support/connection.rs"]
mod connection;
#[path = "support/film.rs"]
mod film;
#[path = "support/speech.rs"]
mod speech;
#[macro_use]
#[path = "support/tell.rs"]
mod tell;

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use connection::{Connection, path};
use film::Film;
use lipsync::{
    avi::Sound,
    session::{Event, SessionReceiver, SessionSender},
    v1::{CompositedFrame, OutputFormat, OutputOptions, Pacing},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

/// A microphone delivers sound in pieces of this length.
const CHUNK: Duration = Duration::from_millis(20);

/// Stream sound to a running server in real time, as a microphone would.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    server: Connection,
    /// Model id of the avatar.
    #[arg(long, default_value = "mira")]
    model: String,
    /// WAV file to speak, or `-` for raw 16-bit mono samples on standard input [default: the first
    /// sample in assets/speech].
    #[arg(long, value_parser = path())]
    audio: Option<PathBuf>,
    /// Sample rate on standard input, Hz.
    #[arg(long, default_value_t = 16_000, value_parser = clap::value_parser!(u32).range(4_000..=192_000))]
    rate: u32,
    /// Interrupt after this many seconds.
    #[arg(long, value_parser = parse_seconds)]
    interrupt_after: Option<Duration>,
    /// Also request frames in silence.
    #[arg(long)]
    idle_frames: bool,
    /// Film to write (AVI).
    #[arg(long, value_parser = path())]
    out: Option<PathBuf>,
}

/// Where the sound comes from.
enum Source {
    /// It ends.
    File(Vec<u8>),
    /// It comes as it is spoken.
    Stdin,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (source, sound) = source(&args)?;
    let client = args.server.connect().await?;
    let session = client
        .session(&args.model)
        .audio(film::format(sound))
        .output(OutputOptions {
            format: OutputFormat::Jpeg.into(),
            ..OutputOptions::default()
        })
        .pacing(Pacing::Realtime)
        .idle_frames(args.idle_frames)
        .audio_echo(true)
        .open()
        .await
        .context("the server refused the session")?;
    let opened = session.opened();
    tell!(
        "{}x{}, {} frames/s; a frame needs {} ms of sound beyond its time",
        opened.width,
        opened.height,
        opened.fps,
        opened.look_ahead_ms
    );
    let mut film = match &args.out {
        Some(path) => Some(Film::create(path, opened, sound)?),
        None => None,
    };
    let (sender, mut receiver) = session.split();
    let interruptions = interruptions(&args, matches!(source, Source::Stdin));
    let spoken_from = Instant::now();
    let speaking = tokio::spawn(async move {
        match source {
            Source::File(data) => speak(sender, data.as_slice(), sound, interruptions).await,
            Source::Stdin => speak(sender, tokio::io::stdin(), sound, interruptions).await,
        }
    });
    watch(&mut receiver, film.as_mut(), spoken_from).await?;
    speaking.await??;
    if let (Some(film), Some(path)) = (film, &args.out) {
        let (n_frames, film_s) = (film.n_frames(), film.seconds());
        film.finish()?;
        tell!("{}: {n_frames} frames, {film_s:.1} s", path.display());
    }
    Ok(())
}

fn source(args: &Args) -> anyhow::Result<(Source, Sound)> {
    if args
        .audio
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-")
    {
        ensure!(
            !std::io::stdin().is_terminal(),
            "--audio -: pipe raw 16-bit mono samples into standard input"
        );
        let sound = Sound {
            rate_hz: args.rate,
            n_channels: 1,
        };
        return Ok((Source::Stdin, sound));
    }
    let path = args.audio.clone().map_or_else(speech::first_sample, Ok)?;
    let wav = speech::read(&path)?;
    Ok((Source::File(wav.to_bytes()), speech::sound(&wav)))
}

/// A message for each interruption: after the set time, and at every Enter unless the standard input
/// is the sound.
fn interruptions(args: &Args, stdin_is_sound: bool) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    if let Some(after) = args.interrupt_after {
        let sender = sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = sender.send(()).await;
        });
    }
    if !stdin_is_sound && std::io::stdin().is_terminal() {
        tell!("Enter interrupts.");
        tokio::spawn(async move {
            let mut lines = BufReader::new(tokio::io::stdin()).lines();
            while let Ok(Some(_)) = lines.next_line().await {
                if sender.send(()).await.is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Pushes a chunk at every tick; the utterance ends with the sound.
async fn speak(
    mut sender: SessionSender,
    mut sound_in: impl AsyncRead + Unpin,
    sound: Sound,
    mut interruptions: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let mut chunk = vec![0; n_bytes(sound, CHUNK)];
    let mut ticks = interval(CHUNK);
    // A microphone waits for nobody: what was missed is handed in at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut may_interrupt = true;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let n_bytes = fill(&mut sound_in, &mut chunk).await?;
                sender.push_audio(chunk[..n_bytes].to_vec()).await?;
                if n_bytes < chunk.len() {
                    sender.end_segment().await?;
                    return Ok(());
                }
            }
            interruption = interruptions.recv(), if may_interrupt => match interruption {
                Some(()) => sender.clear().await?,
                None => may_interrupt = false,
            },
        }
    }
}

/// Bytes of `time`, whole samples of all channels; at least one.
fn n_bytes(sound: Sound, time: Duration) -> usize {
    let n_samples = u128::from(sound.rate_hz) * time.as_micros() / 1_000_000;
    let n_samples = usize::try_from(n_samples).unwrap_or(usize::MAX / 4).max(1);
    n_samples * 2 * usize::from(sound.n_channels)
}

/// Fills `chunk` as far as there is sound; returns how far.
async fn fill(sound_in: &mut (impl AsyncRead + Unpin), chunk: &mut [u8]) -> std::io::Result<usize> {
    let mut n_bytes = 0;
    while n_bytes < chunk.len() {
        match sound_in.read(&mut chunk[n_bytes..]).await? {
            0 => break,
            n => n_bytes += n,
        }
    }
    Ok(n_bytes)
}

/// Takes frames as they come, until the session ends.
async fn watch(
    receiver: &mut SessionReceiver,
    mut film: Option<&mut Film>,
    spoken_from: Instant,
) -> anyhow::Result<()> {
    let mut status = Status::default();
    while let Some(event) = receiver.next().await? {
        match event {
            Event::Frame(frame) => {
                status.see(&frame, spoken_from.elapsed());
                let _ = write!(std::io::stderr(), "\r{}", status.line());
                std::io::stderr().flush()?;
                if let Some(film) = &mut film {
                    film.add(&frame)?;
                }
            }
            Event::Cleared(cleared) => {
                status.segment = None;
                let last = cleared.last_pts_us.unwrap_or_default();
                tell!(
                    "\ninterrupted; the last frame was at {:.2} s",
                    last as f64 / 1e6
                );
            }
            Event::Warning(warning) => tell!("\nwarning: {}", warning.text),
            _ => {}
        }
    }
    tell!("");
    Ok(())
}

/// What the status line says.
#[derive(Default)]
struct Status {
    n_frames: u64,
    n_idle: u64,
    last_at: Option<Duration>,
    longest_gap: Duration,
    /// The utterance on show, and how late its first frame was.
    segment: Option<(u64, Duration)>,
    /// How much later than its first the newest frame of the utterance came, against the sound.
    drift_ms: f64,
}

impl Status {
    fn see(&mut self, frame: &CompositedFrame, at: Duration) {
        self.n_frames += 1;
        if let Some(last_at) = self.last_at.replace(at) {
            self.longest_gap = self.longest_gap.max(at.saturating_sub(last_at));
        }
        let Some(audio_time_us) = frame.audio_time_us else {
            self.n_idle += 1;
            return;
        };
        // The utterance's sound began so long before.
        let began = at.saturating_sub(Duration::from_micros(audio_time_us));
        match self.segment {
            Some((segment_id, first_began)) if segment_id == frame.segment_id => {
                self.drift_ms = (began.as_secs_f64() - first_began.as_secs_f64()) * 1e3;
            }
            _ => {
                self.segment = Some((frame.segment_id, began));
                self.drift_ms = 0.0;
            }
        }
    }

    fn line(&self) -> String {
        format!(
            "{:.1} s, {} frames ({} idle), longest gap {:.0} ms, against the sound {:+.1} ms   ",
            self.last_at.unwrap_or_default().as_secs_f64(),
            self.n_frames,
            self.n_idle,
            self.longest_gap.as_secs_f64() * 1e3,
            self.drift_ms
        )
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "expected seconds, for example 2.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_whole_samples() {
        let sound = |rate_hz, n_channels| Sound {
            rate_hz,
            n_channels,
        };
        let ms = Duration::from_millis;
        assert_eq!(n_bytes(sound(16_000, 1), ms(20)), 640);
        assert_eq!(n_bytes(sound(22_050, 2), ms(20)), 441 * 4);
        assert_eq!(n_bytes(sound(11_025, 1), ms(20)), 220 * 2);
        assert_eq!(n_bytes(sound(4_000, 2), Duration::ZERO), 4);
    }

    #[tokio::test]
    async fn sound_is_read_in_whole_chunks_and_a_rest() {
        let mut sound_in = &[7_u8; 10][..];
        let mut chunk = [0; 4];
        let mut lengths = Vec::new();
        while let Ok(n @ 1..) = fill(&mut sound_in, &mut chunk).await {
            lengths.push(n);
        }
        assert_eq!(lengths, [4, 4, 2]);
    }

    #[test]
    fn the_status_tells_gaps_and_drift_of_the_utterance() {
        let frame = |segment_id, n: u64| CompositedFrame {
            segment_id,
            audio_time_us: (segment_id > 0).then_some(n * 40_000),
            ..CompositedFrame::default()
        };
        let ms = Duration::from_millis;
        let mut status = Status::default();
        status.see(&frame(0, 0), ms(0));
        status.see(&frame(1, 0), ms(500));
        status.see(&frame(1, 1), ms(545));
        assert!((status.drift_ms - 5.0).abs() < 1e-6);
        assert_eq!((status.n_idle, status.longest_gap), (1, ms(500)));
        status.see(&frame(2, 0), ms(600));
        assert_eq!(status.drift_ms, 0.0);
        assert!(
            status.line().contains("4 frames (1 idle)"),
            "{}",
            status.line()
        );
    }

    #[test]
    fn seconds() {
        assert_eq!(parse_seconds("2.5"), Ok(Duration::from_millis(2_500)));
        assert!(parse_seconds("-1").is_err() && parse_seconds("soon").is_err());
    }
}
