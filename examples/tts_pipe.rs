//! Lets text-to-speech speak through an avatar: sound comes in bursts from a program, sentence by sentence.
//!
//! With a server running (`cargo run --release` in another terminal) and espeak-ng installed:
//!
//! ```text
//! cargo run --release --example tts_pipe -- "Hello. I am spoken by a program."
//! fortune | cargo run --release --example tts_pipe -- --realtime
//! cargo run --release --example tts_pipe -- --command "piper -m voice.onnx --output-raw" --rate 22050 "Hello."
//! ```
//!
//! The command is run once for each sentence, by `sh`, with the sentence on its standard input; on its
//! standard output it gives a WAV file, or raw 16-bit mono samples at `--rate`. Each sentence is a segment. The film
//! has the sound that the server sends back with each frame, so picture and sound cannot part.

#[path = "support/avi.rs"]
mod avi;
#[path = "support/connection.rs"]
mod connection;
#[path = "support/film.rs"]
mod film;

use std::{io::Read as _, path::PathBuf, process::Stdio, time::Instant};

use anyhow::{Context as _, bail, ensure};
use avi::Sound;
use bytes::Bytes;
use clap::Parser;
use connection::Connection;
use film::Film;
use lipsync::{
    client::Client,
    session::{Event, Session, SessionReceiver},
    v1::{OutputFormat, OutputOptions, Pacing},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStdout, Command},
    sync::mpsc,
};

/// Longest burst that is taken from the program at once, bytes.
const BURST: usize = 64 * 1024;
/// A WAV file says what it holds within so many bytes.
const MAX_HEADER: usize = 4096;

/// Speaks text through an avatar on a running server.
#[derive(Parser)]
struct Args {
    /// What is said [default: the standard input].
    text: Option<String>,
    #[command(flatten)]
    server: Connection,
    /// Who speaks.
    #[arg(long, default_value = "mira")]
    model: String,
    /// Text-to-speech: reads a sentence, writes its sound.
    #[arg(long, default_value = "espeak-ng --stdin --stdout")]
    command: String,
    /// Samples per second, for a command that writes raw samples.
    #[arg(long, value_parser = clap::value_parser!(u32).range(4_000..=192_000))]
    rate: Option<u32>,
    /// Frames at their time, as a viewer would see them, instead of as fast as they are made.
    #[arg(long)]
    realtime: bool,
    /// The film.
    #[arg(long, default_value = "tts.avi")]
    out: PathBuf,
}

/// What comes out of the program.
enum Burst {
    /// Sound of the sentence.
    Sound(Bytes),
    /// The sentence is over.
    End,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let text = match &args.text {
        Some(text) => text.clone(),
        None => read_stdin()?,
    };
    let sentences = sentences(&text);
    ensure!(!sentences.is_empty(), "there is nothing to say");
    let client = args.server.connect().await?;
    let (bursts, mut heard) = mpsc::channel(1);
    let (sound_sender, sound_receiver) = tokio::sync::oneshot::channel();
    let (command, rate) = (args.command.clone(), args.rate);
    let synthesis = tokio::spawn(async move {
        let mut announce = Some(sound_sender);
        for sentence in sentences {
            synthesise(&command, &sentence, rate, &bursts, &mut announce).await?;
        }
        anyhow::Ok(())
    });
    let Ok(sound) = sound_receiver.await else {
        synthesis.await??;
        bail!("`{}` gave no sound", args.command);
    };
    let started = Instant::now();
    let session = open(&client, &args, sound).await?;
    let film = Film::create(&args.out, session.opened(), sound)?;
    let (mut sender, receiver) = session.split();
    let speaking = tokio::spawn(async move {
        while let Some(burst) = heard.recv().await {
            match burst {
                Burst::Sound(samples) => sender.push_audio(samples).await.map(drop)?,
                Burst::End => sender.end_segment().await.map(drop)?,
            }
        }
        anyhow::Ok(())
    });
    watch(receiver, film, started).await?;
    speaking.await??;
    synthesis.await??;
    eprintln!("{}", args.out.display());
    Ok(())
}

async fn open(client: &Client, args: &Args, sound: Sound) -> anyhow::Result<Session> {
    let pacing = if args.realtime {
        Pacing::Realtime
    } else {
        Pacing::Asap
    };
    client
        .session(&args.model)
        .audio(film::format(sound))
        .output(OutputOptions {
            format: OutputFormat::Jpeg.into(),
            ..OutputOptions::default()
        })
        .pacing(pacing)
        .audio_echo(true)
        .open()
        .await
        .context("the server refused the session")
}

/// Writes the film until the session ends.
async fn watch(
    mut receiver: SessionReceiver,
    mut film: Film,
    started: Instant,
) -> anyhow::Result<()> {
    while let Some(event) = receiver.next().await? {
        match event {
            Event::Frame(frame) => film.add(&frame)?,
            Event::SegmentEnd(end) => eprintln!(
                "{:.2} s: sentence {} was said, {} frames",
                started.elapsed().as_secs_f64(),
                end.segment_id,
                end.n_frames
            ),
            Event::Warning(warning) => eprintln!("warning: {}", warning.text),
            _ => {}
        }
    }
    let (n_frames, film_s) = (film.n_frames(), film.seconds());
    film.finish()?;
    eprintln!("{n_frames} frames, {film_s:.1} s of film");
    Ok(())
}

/// Runs the program for one sentence and passes its sound on as it comes. The first sound says what
/// all of it is like.
async fn synthesise(
    command: &str,
    sentence: &str,
    rate: Option<u32>,
    bursts: &mpsc::Sender<Burst>,
    announce: &mut Option<tokio::sync::oneshot::Sender<Sound>>,
) -> anyhow::Result<()> {
    let mut program = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run sh")?;
    let mut stdin = program.stdin.take().context("a pipe was asked for")?;
    let mut stdout = program.stdout.take().context("a pipe was asked for")?;
    stdin.write_all(sentence.as_bytes()).await?;
    stdin.write_all(b"\n").await?;
    drop(stdin);

    let (sound, mut rest) = read_header(&mut stdout, rate).await?;
    if let Some(announce) = announce.take() {
        // Without a listener the program is ending.
        let _ = announce.send(sound);
    }
    let item_bytes = film::format(sound).item_bytes();
    loop {
        let whole = rest.len() / item_bytes * item_bytes;
        let samples: Bytes = rest.drain(..whole).collect();
        if !samples.is_empty() && bursts.send(Burst::Sound(samples)).await.is_err() {
            return Ok(()); // The session is over and says why.
        }
        let held = rest.len();
        rest.resize(held + BURST, 0);
        let n = stdout.read(&mut rest[held..]).await?;
        rest.truncate(held + n);
        if n == 0 {
            break;
        }
    }
    let status = program.wait().await?;
    ensure!(status.success(), "`{command}` failed: {status}");
    let _ = bursts.send(Burst::End).await;
    Ok(())
}

/// Reads as far as the sound; returns what it is like, and what was read of it.
async fn read_header(
    stdout: &mut ChildStdout,
    rate: Option<u32>,
) -> anyhow::Result<(Sound, Vec<u8>)> {
    if let Some(rate_hz) = rate {
        let sound = Sound {
            rate_hz,
            n_channels: 1,
        };
        return Ok((sound, Vec::new()));
    }
    let mut head = Vec::new();
    loop {
        if let Some((sound, start)) = wav_header(&head)? {
            return Ok((sound, head.split_off(start)));
        }
        ensure!(
            head.len() < MAX_HEADER,
            "no sound in its first {MAX_HEADER} bytes"
        );
        let n = stdout.read_buf(&mut head).await?;
        ensure!(n > 0, "the text-to-speech ended before it gave any sound");
    }
}

/// Finds the samples of a WAV file of 16-bit samples: what they are like and where they start; `None` when
/// more must be read. The lengths in it are not looked at: who writes into a pipe does not know them.
fn wav_header(head: &[u8]) -> anyhow::Result<Option<(Sound, usize)>> {
    let shown = head.len().min(4);
    ensure!(
        head[..shown] == b"RIFF"[..shown],
        "this is no WAV file; for raw samples give their --rate"
    );
    let u16_at = |place: usize| {
        Some(u16::from_le_bytes(
            head.get(place..place + 2)?.try_into().ok()?,
        ))
    };
    let u32_at = |place: usize| {
        Some(u32::from_le_bytes(
            head.get(place..place + 4)?.try_into().ok()?,
        ))
    };
    let mut sound = None;
    let mut place = 12;
    while let (Some(name), Some(n_bytes)) = (head.get(place..place + 4), u32_at(place + 4)) {
        let content = place + 8;
        if name == b"data" {
            let sound = sound.context("the WAV file does not say what it holds")?;
            return Ok(Some((sound, content)));
        }
        if name == b"fmt " {
            let fields = (
                u16_at(content),
                u16_at(content + 2),
                u32_at(content + 4),
                u16_at(content + 14),
            );
            let (Some(kind), Some(n_channels), Some(rate_hz), Some(bits)) = fields else {
                return Ok(None);
            };
            // 0xFFFE: the kind is told further on, and for 16 bits it can only be PCM.
            ensure!(
                matches!(kind, 1 | 0xFFFE) && bits == 16 && (1..=2).contains(&n_channels),
                "16-bit samples of one or two channels are understood, not {bits}-bit of {n_channels}"
            );
            sound = Some(Sound {
                rate_hz,
                n_channels,
            });
        }
        let n_bytes = usize::try_from(n_bytes)?;
        place = content.saturating_add(n_bytes).saturating_add(n_bytes % 2);
    }
    Ok(None)
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Cuts text where sentences end: a mark, then space; or an empty line.
fn sentences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut sentence = String::new();
        for word in paragraph.split_whitespace() {
            if !sentence.is_empty() {
                sentence.push(' ');
            }
            sentence.push_str(word);
            if word.ends_with(['.', '!', '?', ':', ';', '…']) {
                found.push(std::mem::take(&mut sentence));
            }
        }
        if !sentence.is_empty() {
            found.push(sentence);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As espeak-ng writes it: lengths of 2 GB, and here a chunk that nobody knows.
    fn wav(n_channels: u16, bits: u16) -> Vec<u8> {
        let mut wav = b"RIFF\xff\xff\xff\x7fWAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0".to_vec();
        wav.extend(n_channels.to_le_bytes());
        wav.extend(22_050_u32.to_le_bytes());
        wav.extend([0; 6]);
        wav.extend(bits.to_le_bytes());
        wav.extend(b"data\xff\xff\xff\x7f\x01\x02\x03\x04");
        wav
    }

    #[test]
    fn the_header_is_found_however_little_was_read() {
        let whole = wav(2, 16);
        let start = whole.len() - 4;
        for n in 0..start {
            let found = wav_header(&whole[..n]).expect("no mistake so far");
            assert!(found.is_none(), "{n} bytes");
        }
        let (sound, place) = wav_header(&whole).expect("right").expect("complete");
        assert_eq!((sound.rate_hz, sound.n_channels, place), (22_050, 2, start));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(wav_header(b"OggS").is_err());
        assert!(wav_header(b"ID").is_err());
        assert!(wav_header(&wav(1, 24)).is_err());
        assert!(wav_header(&wav(6, 16)).is_err());
        assert!(wav_header(b"RIFF....WAVEdata....").is_err());
    }

    #[test]
    fn text_is_cut_where_sentences_end() {
        assert_eq!(
            sentences("It is 3.5 km. Really?  Yes!\nA title\n\nAnd\nthe rest"),
            [
                "It is 3.5 km.",
                "Really?",
                "Yes!",
                "A title",
                "And the rest"
            ]
        );
        assert!(sentences(" \n\n ").is_empty());
    }
}
