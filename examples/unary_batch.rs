//! One unary request: eight frames for a piece of speech, saved as JPEG files.
//!
//! With a server running (`cargo run --release` in another terminal):
//!
//! ```text
//! cargo run --release --example unary_batch
//! ```

#[path = "support/connection.rs"]
mod connection;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use connection::Connection;
use lipsync::v1::{
    InferBatchCompositeRequest, OutputFormat, OutputOptions, Pcm,
    infer_batch_composite_request::Audio,
};

/// Asks a running server for a batch of frames and saves them.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    server: Connection,
    /// Who speaks.
    #[arg(long, default_value = "mira")]
    model: String,
    /// What is said: WAV of 16-bit samples, mono or stereo.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/speech/welcome.wav"))]
    audio: PathBuf,
    /// The first frame, counted from the start of the audio: 25 is one second into it.
    #[arg(long, default_value_t = 25)]
    first_frame: u32,
    /// Frames wanted.
    #[arg(long, default_value_t = 8)]
    frames: u32,
    /// Where the pictures go.
    #[arg(long, default_value = "out")]
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

    fs::create_dir_all(&args.out)?;
    for frame in &answer.frames {
        let path = args.out.join(format!("frame_{:04}.jpg", frame.frame_index));
        fs::write(&path, &frame.data)?;
        eprintln!("{} ({} bytes)", path.display(), frame.data.len());
    }
    let timings = answer.timings.unwrap_or_default();
    eprintln!(
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
    let mut reader = hound::WavReader::open(&args.audio)
        .with_context(|| format!("cannot read {}", args.audio.display()))?;
    let spec = reader.spec();
    ensure!(
        spec.bits_per_sample == 16 && spec.sample_format == hound::SampleFormat::Int,
        "this example reads 16-bit WAV files only"
    );
    let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
    let pcm = Pcm {
        samples: bytes.into(),
        sample_rate_hz: spec.sample_rate,
        channels: u32::from(spec.channels),
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
