//! One unary request: eight frames for a piece of speech, saved as JPEG files.
//!
//! With a server running (`cargo run --release` in another terminal):
//!
//! ```text
//! cargo run --release --example unary_batch
//! ```

#[path = "support/connection.rs"]
mod connection;
#[macro_use]
#[path = "support/tell.rs"]
mod tell;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use clap::Parser;
use connection::{Connection, path};
use lipsync::{
    v1::{
        InferBatchCompositeRequest, OutputFormat, OutputOptions, Pcm,
        infer_batch_composite_request::Audio,
    },
    wav::Wav,
};

/// Request a batch of frames from a running server and save them.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    server: Connection,
    /// Model id of the avatar.
    #[arg(long, default_value = "mira")]
    model: String,
    /// WAV file to speak.
    #[arg(long, value_parser = path(), default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/speech/welcome.wav"))]
    audio: PathBuf,
    /// First frame, counted from the start of the audio: 25 is one second into it.
    #[arg(long, default_value_t = 25)]
    first_frame: u32,
    /// Number of frames.
    #[arg(long, default_value_t = 8)]
    frames: u32,
    /// Folder for the pictures.
    #[arg(long, value_parser = path(), default_value = "out")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let request = request(&args)?;
    let client = args.server.connect().await?;
    let sent = Instant::now();
    let answer = client
        .infer_batch_composite(request)
        .await
        .context("the server refused")?;
    let round_trip = sent.elapsed();

    for warning in &answer.warnings {
        eprintln!("warning: {}", warning.text);
    }
    let cannot_write = |path: &Path| format!("cannot write {}", path.display());
    fs::create_dir_all(&args.out).with_context(|| cannot_write(&args.out))?;
    for frame in &answer.frames {
        let path = args.out.join(format!("frame_{:04}.jpg", frame.frame_index));
        fs::write(&path, &frame.data).with_context(|| cannot_write(&path))?;
        tell!("{} ({} bytes)", path.display(), frame.data.len());
    }
    let timings = answer.timings.unwrap_or_default();
    tell!(
        "{} frames in {:.1} ms; in the server {:.1} ms: prepare {:.1}, queue {:.1}, infer {:.1}, composite {:.1}",
        answer.frames.len(),
        round_trip.as_secs_f64() * 1e3,
        ms(timings.total_us),
        ms(timings.prepare_us),
        ms(timings.queue_us),
        ms(timings.infer_us),
        ms(timings.composite_us),
    );
    Ok(())
}

fn request(args: &Args) -> anyhow::Result<InferBatchCompositeRequest> {
    let wav = Wav::open_within(&args.audio, 1 << 30)
        .with_context(|| format!("cannot use {}", args.audio.display()))?;
    let pcm = Pcm {
        samples: wav.to_bytes().into(),
        sample_rate_hz: wav.rate_hz,
        channels: wav.n_channels.into(),
        // What lies before the first frame is its context: the mouth depends on both sides.
        first_frame: args.first_frame,
        ..Pcm::default()
    };
    Ok(InferBatchCompositeRequest {
        model_id: args.model.clone(),
        audio: Some(Audio::Pcm(pcm)),
        frame_count: args.frames,
        start_frame_index: u64::from(args.first_frame),
        output: Some(OutputOptions {
            format: OutputFormat::Jpeg.into(),
            ..OutputOptions::default()
        }),
        ..InferBatchCompositeRequest::default()
    })
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}
