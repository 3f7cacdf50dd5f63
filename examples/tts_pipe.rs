//! Speaks text through an avatar. A text-to-speech program delivers the sound in bursts, one sentence at a time.
//!
//! With a server running (`cargo run --release` in another terminal) and espeak-ng installed:
//!
//! ```text
//! cargo run --release --example tts_pipe -- "Hello. I am spoken by a program."
//! fortune | cargo run --release --example tts_pipe -- --realtime
//! cargo run --release --example tts_pipe -- --command "piper -m voice.onnx --output-raw" --rate 22050 "Hello."
//! ```
//!
//! `sh` runs the command once for each sentence, with the sentence on standard input. The command writes a WAV
//! file, or raw 16-bit mono samples at `--rate`, to standard output. Each sentence is a segment. The film has the
//! sound that the server sends back with each frame, so picture and sound stay in step.

#[path = "support/connection.rs"]
mod connection;
#[path = "support/film.rs"]
mod film;
#[macro_use]
#[path = "support/tell.rs"]
mod tell;

use std::{io::Read as _, path::PathBuf, process::Stdio, time::Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use connection::{Connection, path};
use film::Film;
use lipsync::{
    avi::Sound,
    client::Client,
    session::{Event, Session, SessionReceiver},
    v1::{OutputFormat, OutputOptions, Pacing},
    wav::WavReader,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::mpsc,
};

/// Most bytes to read from the program at once.
const BURST: usize = 64 * 1024;
/// The error for output that is not a WAV file.
const NOT_USABLE: &str =
    "the text-to-speech command wrote no usable sound; if it writes raw samples, set --rate";

/// Speak text through an avatar on a running server, and write a film.
#[derive(Parser)]
struct Args {
    /// Text to speak [default: standard input].
    text: Option<String>,
    #[command(flatten)]
    server: Connection,
    /// Model id of the avatar.
    #[arg(long, default_value = "mira")]
    model: String,
    /// Text-to-speech command: reads a sentence on standard input, writes its sound to standard output.
    #[arg(long, default_value = "espeak-ng --stdin --stdout")]
    command: String,
    /// Sample rate, Hz, if the command writes raw samples.
    #[arg(long, value_parser = clap::value_parser!(u32).range(4_000..=192_000))]
    rate: Option<u32>,
    /// Send frames in real time instead of as fast as possible.
    #[arg(long)]
    realtime: bool,
    /// Film to write (AVI).
    #[arg(long, value_parser = path(), default_value = "tts.avi")]
    out: PathBuf,
}

/// Output of the program.
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
    tell!("{}", args.out.display());
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
            Event::SegmentEnd(end) => tell!(
                "{:.2} s: sentence {} is done, {} frames",
                started.elapsed().as_secs_f64(),
                end.segment_id,
                end.n_frames
            ),
            Event::Warning(warning) => tell!("warning: {}", warning.text),
            _ => {}
        }
    }
    let (n_frames, film_s) = (film.n_frames(), film.seconds());
    film.finish()?;
    tell!("{n_frames} frames, {film_s:.1} s of film");
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
    let mut stdin = program.stdin.take().context("sh has no pipe")?;
    let mut stdout = program.stdout.take().context("sh has no pipe")?;
    stdin.write_all(sentence.as_bytes()).await?;
    stdin.write_all(b"\n").await?;
    drop(stdin);

    let mut sounds = Sounds::new(rate);
    let mut piece = Vec::with_capacity(BURST);
    while stdout.read_buf(&mut piece).await? > 0 {
        let samples = sounds.take(&piece)?;
        piece.clear();
        if let (Some(sound), Some(announce)) = (sounds.sound(), announce.take()) {
            // Without a listener the program is ending.
            let _ = announce.send(sound);
        }
        if !samples.is_empty() && bursts.send(Burst::Sound(samples)).await.is_err() {
            return Ok(()); // The session is over and says why.
        }
    }
    sounds.finish()?;
    let status = program.wait().await?;
    ensure!(status.success(), "`{command}` failed: {status}");
    let _ = bursts.send(Burst::End).await;
    Ok(())
}

/// What a program writes, as samples.
enum Sounds {
    /// Raw 16-bit mono samples at this rate.
    Raw(u32),
    Wav(WavReader),
}

impl Sounds {
    fn new(rate: Option<u32>) -> Self {
        rate.map_or_else(|| Self::Wav(WavReader::default()), Self::Raw)
    }

    /// Takes what was written, cut anywhere.
    fn take(&mut self, piece: &[u8]) -> anyhow::Result<Bytes> {
        let samples = match self {
            Self::Raw(_) => return Ok(Bytes::copy_from_slice(piece)),
            Self::Wav(reader) => reader.push(piece).context(NOT_USABLE)?,
        };
        Ok(samples.iter().flat_map(|s| s.to_le_bytes()).collect())
    }

    /// What it is like, once that is known.
    fn sound(&self) -> Option<Sound> {
        let (rate_hz, n_channels) = match self {
            Self::Raw(rate_hz) => (*rate_hz, 1),
            Self::Wav(reader) => {
                let head = reader.head()?;
                (head.rate_hz, head.n_channels_out())
            }
        };
        Some(Sound {
            rate_hz,
            n_channels,
        })
    }

    fn finish(self) -> anyhow::Result<()> {
        if let Self::Wav(reader) = self {
            reader.finish().context(NOT_USABLE)?;
        }
        Ok(())
    }
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

    /// As espeak-ng writes it: lengths of 2 GB.
    #[test]
    fn sound_is_taken_in_pieces_as_a_program_writes_them() {
        let mut wav = b"RIFF\x24\xf0\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        wav.extend(22_050_u32.to_le_bytes());
        wav.extend(b"\x44\xac\0\0\x02\0\x10\0data\0\xf0\xff\x7f\x01\x02\x03\x04");
        for n in [1, 3, 47, 100] {
            let mut sounds = Sounds::new(None);
            let pieces = wav
                .chunks(n)
                .map(|piece| sounds.take(piece).expect("a WAV file"));
            let samples: Vec<u8> = pieces.flatten().collect();
            assert_eq!(samples, [1, 2, 3, 4], "pieces of {n}");
            let sound = sounds.sound().expect("known");
            assert_eq!((sound.rate_hz, sound.n_channels), (22_050, 1));
            sounds.finish().expect("it had samples");
        }
    }

    #[test]
    fn other_files_are_refused_and_raw_samples_are_what_they_are() {
        let error = Sounds::new(None)
            .take(b"OggS\0\x02")
            .expect_err("no WAV file");
        assert!(format!("{error:#}").contains("Ogg"), "{error:#}");
        assert!(Sounds::new(None).finish().is_err());
        let mut raw = Sounds::new(Some(16_000));
        assert_eq!(&raw.take(b"OggS\0").expect("samples")[..], b"OggS\0");
        assert_eq!(raw.sound().map(|s| s.rate_hz), Some(16_000));
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
