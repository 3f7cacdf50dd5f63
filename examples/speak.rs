//! Speaks a WAV file through an avatar and writes a film with sound that common players show.
//!
//! With a server running (`cargo run --release` in another terminal):
//!
//! ```text
//! cargo run --release --example speak
//! cargo run --release --example speak -- --audio my.wav --out my.avi
//! ```
//!
//! It uses a live session, as a client in a conversation would: audio goes in while frames come out.
//! The audio is on disk here, so it goes in as fast as frames come back.

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
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use connection::{Connection, path};
use film::Film;
use lipsync::{
    session::Event,
    v1::{OutputFormat, OutputOptions},
};

/// Speak a WAV file through an avatar on a running server, and write a film.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    server: Connection,
    /// Model id of the avatar.
    #[arg(long, default_value = "mira")]
    model: String,
    /// WAV file to speak [default: the first sample in assets/speech].
    #[arg(long, value_parser = path())]
    audio: Option<PathBuf>,
    /// Film to write (AVI).
    #[arg(long, value_parser = path(), default_value = "speak.avi")]
    out: PathBuf,
    /// JPEG quality of the frames, 1 to 100; 0 = the server's default.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    quality: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let path = args.audio.map_or_else(speech::first_sample, Ok)?;
    let wav = speech::read(&path)?;
    let sound = speech::sound(&wav);
    let client = args.server.connect().await?;

    let started = Instant::now();
    let session = client
        .session(&args.model)
        .audio(film::format(sound))
        .output(OutputOptions {
            format: OutputFormat::Jpeg.into(),
            quality: args.quality,
            region_only: false,
        })
        .audio_echo(true)
        .resume_within(Duration::from_secs(5))
        .open()
        .await
        .context("the server refused the session")?;
    let (mut sender, mut receiver) = session.split();
    // It waits where the server holds enough audio, so it has a task of its own. When it fails the
    // session is over; the loop below is told why.
    let samples = wav.to_bytes();
    let speaking = tokio::spawn(async move { sender.push_audio(samples).await });

    let mut film = Film::create(&args.out, receiver.opened(), sound)?;
    let mut first_frame_after = None;
    while let Some(event) = receiver.next().await? {
        match event {
            Event::Frame(frame) => {
                first_frame_after.get_or_insert_with(|| started.elapsed());
                film.add(&frame)?;
                let _ = write!(std::io::stderr(), "\r{} frames", film.n_frames());
            }
            Event::Warning(warning) => tell!("\nwarning: {}", warning.text),
            _ => {}
        }
    }
    tell!("");
    speaking.await??;
    let (n_frames, film_s) = (film.n_frames(), film.seconds());
    film.finish()?;

    let took = started.elapsed().as_secs_f64();
    tell!(
        "{}: {n_frames} frames, {film_s:.1} s of film made in {took:.1} s ({:.0} frames/s), first frame after {:.0} ms",
        args.out.display(),
        n_frames as f64 / took,
        first_frame_after.unwrap_or_default().as_secs_f64() * 1e3,
    );
    Ok(())
}
