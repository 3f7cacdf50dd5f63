//! Speaks a WAV file through an avatar and writes a film that common players show with sound.
//!
//! With a server running (`cargo run --release` in another terminal):
//!
//! ```text
//! cargo run --release --example speak
//! cargo run --release --example speak -- --audio my.wav --out my.avi
//! ```
//!
//! It is a live session as a client of a conversation would hold it: audio goes in while frames come
//! out. Here the audio is on disk, so it goes in as fast as frames come back.

#[path = "support/avi.rs"]
mod avi;
#[path = "support/connection.rs"]
mod connection;
#[path = "support/film.rs"]
mod film;
#[path = "support/speech.rs"]
mod speech;

use std::{path::PathBuf, time::Instant};

use anyhow::Context as _;
use clap::Parser;
use connection::Connection;
use film::Film;
use lipsync::{
    session::Event,
    v1::{OutputFormat, OutputOptions},
};
use speech::Speech;

/// Speaks a WAV file through an avatar on a running server.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    server: Connection,
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
    let path = args.audio.map_or_else(speech::first_sample, Ok)?;
    let speech = Speech::read(&path)?;
    let client = args.server.connect().await?;

    let started = Instant::now();
    let session = client
        .session(&args.model)
        .audio(film::format(speech.sound()))
        .output(OutputOptions {
            format: OutputFormat::Jpeg.into(),
            quality: args.quality,
            region_only: false,
        })
        .audio_echo(true)
        .open()
        .await
        .context("the server refused the session")?;
    let (mut sender, mut receiver) = session.split();
    // It waits where the server holds enough audio, so it has a task of its own. When it fails the
    // session is over; the loop below is told why.
    let samples = speech.to_bytes();
    let speaking = tokio::spawn(async move { sender.push_audio(samples).await });

    let mut film = Film::create(&args.out, receiver.opened(), speech.sound())?;
    let mut first_frame_after = None;
    while let Some(event) = receiver.next().await? {
        match event {
            Event::Frame(frame) => {
                first_frame_after.get_or_insert_with(|| started.elapsed());
                film.add(&frame)?;
                eprint!("\r{} frames", film.n_frames());
            }
            Event::Warning(warning) => eprintln!("\nwarning: {}", warning.text),
            _ => {}
        }
    }
    eprintln!();
    speaking.await??;
    let (n_frames, film_s) = (film.n_frames(), film.seconds());
    film.finish()?;

    let took = started.elapsed().as_secs_f64();
    eprintln!(
        "{}: {n_frames} frames, {film_s:.1} s of film made in {took:.1} s ({:.0} frames/s), first frame after {:.0} ms",
        args.out.display(),
        n_frames as f64 / took,
        first_frame_after.unwrap_or_default().as_secs_f64() * 1e3,
    );
    Ok(())
}
