//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use lipsync::v1::{OutputFormat, OutputOptions, Pacing};
use serde::Serialize;

use crate::profile::{Profile, TURN};

/// Most users that one process simulates.
pub const MAX_USERS: u64 = 100_000;
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// Measures a lipsync server under load, as its clients see it.
///
/// Latency is counted from the moment when a request was due (open loop), so a server that falls
/// behind cannot hide it by slowing the client down. Only `--profile saturate` is a closed loop.
///
/// A frame is missed when it is not back in time: a request for n frames is due n / fps seconds
/// after the moment it was due to be sent, because its frames are shown while the next request
/// runs. With --stream each frame is due one chunk's time after the audio that it needs, look-ahead
/// included, was due to be sent. With --pacing realtime the server keeps the time, and a frame is due
/// when a player shows it that begins --player-buffer after the first frame of the utterance.
///
/// Live sessions (--stream) report more:
///
/// First frame after its audio: from when the audio that an utterance's first frame needs, its
/// look-ahead, was due to be sent, to that frame.
///
/// Frame interval: between the arrivals of two frames of one utterance or, with --idle-frames and
/// --pacing realtime, of any two neighbours.
///
/// Clear to cleared: from the client's interruption to the server's confirmation. Frames of the
/// utterance that were not due by then are not missed; one that comes after the confirmation counts
/// as `invalid protocol`.
///
/// Drift: by how much more the frames of a session's last second lag behind the moments when their
/// audio was spoken than those of its first second (medians). The worst session is shown.
///
/// Exit status: 0 passed, 1 could not run, 2 wrong arguments, 3 the error budget was passed (or,
/// with --find-max-users, not even one user could be served; with --compare-alone, frames differ or
/// there are none).
#[derive(Debug, Clone, Parser, Serialize)]
#[command(name = "lipsync-load-test", version = env!("LIPSYNC_VERSION"))]
pub struct Args {
    /// The server: host:port, or https://host:port for TLS.
    #[arg(long, default_value = "127.0.0.1:50051")]
    pub addr: String,
    /// Certificates (PEM) that https trusts instead of the system's.
    #[arg(long, value_name = "FILE", env = "LIPSYNC_CA")]
    pub ca: Option<PathBuf>,
    /// Model to ask for; repeat it or separate with commas, users are spread over all.
    #[arg(long = "model", value_delimiter = ',', default_value = "mira")]
    pub models: Vec<String>,
    /// Simulated users.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MAX_USERS))]
    pub users: u64,
    /// Measured time, for example 30s, 500ms, 2m [default: 30s; with --find-max-users 15s a probe].
    #[arg(long, value_parser = parse_duration)]
    #[serde(serialize_with = "as_optional_seconds")]
    pub duration: Option<Duration>,
    /// Time before it, which is not counted.
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    #[serde(serialize_with = "as_seconds")]
    pub warm_up: Duration,
    /// How users behave.
    #[arg(long, value_enum, default_value = "conversational")]
    pub profile: Profile,
    /// Requests per second over all users, for --profile rate.
    #[arg(long, value_parser = parse_rate, required_if_eq("profile", "rate"))]
    pub rate: Option<f64>,
    /// Frames per request; with --stream frames of audio per chunk.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// Frames per second that a speaking user consumes [default: the model's].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub fps: Option<u32>,
    /// Live StreamComposite sessions instead of unary requests.
    #[arg(long)]
    pub stream: bool,
    /// When frames leave the server: asap, or realtime.
    #[arg(long, value_enum, default_value = "asap", requires = "stream")]
    pub pacing: Pace,
    /// Ask for frames in silence and between utterances. With --stream only.
    #[arg(long, requires = "stream")]
    pub idle_frames: bool,
    /// Interrupt each utterance so often, for example 2s; its rest follows at once as another one. With
    /// --stream only.
    #[arg(long, value_parser = parse_duration, requires = "stream")]
    #[serde(serialize_with = "as_optional_seconds")]
    pub interrupt_every: Option<Duration>,
    /// With --pacing realtime: how long after an utterance's first frame a player begins to show it.
    #[arg(long, value_parser = parse_duration, default_value = "80ms")]
    #[serde(serialize_with = "as_seconds")]
    pub player_buffer: Duration,
    /// What users say, a WAV file [default: speech-like sound, different for each user].
    #[arg(long, value_name = "FILE.wav")]
    pub audio: Option<PathBuf>,
    /// What is sent: samples, or made-up feature steps or windows, which spare the server the
    /// audio encoder.
    #[arg(long, value_enum, default_value = "pcm")]
    pub input: Input,
    /// Frames of audio sent before and after those wanted, so that cut speech gives whole windows.
    /// Unary requests with samples or steps only.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub context: u32,
    /// How frames come back.
    #[arg(long, value_enum, default_value = "jpeg")]
    pub format: Format,
    /// JPEG quality 1..100; 0 = the server's.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub quality: u32,
    /// Ask for the face rectangle only.
    #[arg(long)]
    pub region_only: bool,
    /// Longest wait for an answer; also the deadline that the server is told.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    #[serde(serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// Connections that the users share.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// Also write everything to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Search the most users that are served within --slo-p95-ms and --max-error-rate: doubling,
    /// then bisection to 5 %. --users is ignored.
    #[arg(long, conflicts_with = "rate")]
    pub find_max_users: bool,
    /// Users of the first probe of --find-max-users. Short probes want several: a single user of --profile
    /// conversational is silent most of the time, and where nobody asks for anything nothing is served.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_USERS),
        requires = "find_max_users")]
    pub first_users: u64,
    /// Measure nothing, but have each of --users ask for the same frames alone and then all at once, and
    /// compare them byte by byte.
    #[arg(long, conflicts_with_all = ["find_max_users", "stream", "rate"])]
    pub compare_alone: bool,
    /// The 95th percentile of latency that --find-max-users allows, ms.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub slo_p95_ms: u64,
    /// Share of failed requests that is tolerated, 0..1.
    #[arg(long, default_value_t = 0.01, value_parser = parse_share)]
    pub max_error_rate: f64,
    /// Makes phases and voices repeatable.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// No progress bar.
    #[arg(long)]
    pub quiet: bool,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Samples.
    Pcm,
    /// Feature steps.
    Steps,
    /// Feature windows.
    Windows,
}

/// When frames leave the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// As soon as they are made.
    Asap,
    /// At their time.
    Realtime,
}

impl Pace {
    /// As the wire names it.
    #[must_use]
    pub fn to_proto(self) -> Pacing {
        match self {
            Self::Asap => Pacing::Asap,
            Self::Realtime => Pacing::Realtime,
        }
    }
}

/// How frames come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Baseline JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// Raw RGB.
    Rgb,
    /// Raw planar YUV 4:2:0.
    I420,
}

impl Format {
    /// As the wire names it.
    #[must_use]
    pub fn to_proto(self) -> OutputFormat {
        match self {
            Self::Jpeg => OutputFormat::Jpeg,
            Self::Png => OutputFormat::Png,
            Self::Rgb => OutputFormat::Rgb,
            Self::I420 => OutputFormat::I420,
        }
    }
}

impl Args {
    /// Checks what single arguments cannot.
    ///
    /// # Errors
    /// A message for the user.
    pub fn validate(&self) -> Result<(), String> {
        if self.stream && self.profile == Profile::Rate {
            return Err("--stream has no --profile rate: a stream sends as it speaks".to_owned());
        }
        if self.find_max_users && self.profile == Profile::Rate {
            return Err("--find-max-users needs a load that grows with the users".to_owned());
        }
        if self.fps.is_some() && self.pacing == Pace::Realtime {
            return Err("--fps: with --pacing realtime the model's rate holds".to_owned());
        }
        if self.interrupt_every.is_some_and(|every| every.is_zero()) {
            return Err("--interrupt-every: expected a time above 0".to_owned());
        }
        if self.models.iter().any(String::is_empty) {
            return Err("--model: an empty name".to_owned());
        }
        Ok(())
    }

    /// The measured time of one run.
    #[must_use]
    pub fn measured(&self) -> Duration {
        // A probe of a whole turn holds each user's speech once.
        let default = if self.find_max_users {
            TURN
        } else {
            Duration::from_secs(30)
        };
        self.duration.unwrap_or(default)
    }

    /// What requests ask for.
    #[must_use]
    pub fn output(&self) -> OutputOptions {
        OutputOptions {
            format: self.format.to_proto().into(),
            quality: self.quality,
            region_only: self.region_only,
        }
    }
}

/// Reads `500ms`, `30s`, `2m`, or a number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = if let Some(number) = text.strip_suffix("ms") {
        (number, 0.001)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60.0)
    } else {
        (text, 1.0)
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|n| Duration::try_from_secs_f64(n * unit_s).ok())
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| "expected for example 500ms, 30s or 2m, at most 24 hours".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| *rate > 0.0 && *rate <= 1e6)
        .ok_or_else(|| "expected requests per second above 0, at most 1,000,000".to_owned())
}

fn parse_share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share: &f64| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a share from 0 to 1".to_owned())
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

fn as_optional_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => to.serialize_some(&duration.as_secs_f64()),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("t").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_and_lists() {
        let args = parse("").expect("defaults");
        assert_eq!(args.models, ["mira"]);
        assert_eq!(args.measured(), Duration::from_secs(30));
        let args = parse("--model a,b --model c --duration 500ms --find-max-users").expect("fine");
        assert_eq!(args.models, ["a", "b", "c"]);
        assert_eq!(args.measured(), Duration::from_millis(500));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--users 0",
            "--users 100001",
            "--duration -1s",
            "--duration 25000m",
            "--duration NaN",
            "--profile rate",
            "--profile rate --rate 0",
            "--max-error-rate 1.5",
            "--batch 0",
            "--pacing realtime",
            "--interrupt-every 2s",
            "--stream --pacing slow",
            "--compare-alone --find-max-users",
            "--compare-alone --stream",
            "--first-users 4",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let args = parse("--profile rate --rate 5 --stream").expect("each is fine alone");
        assert!(args.validate().is_err());
        let args = parse("--stream --pacing realtime --fps 5").expect("each is fine alone");
        assert!(args.validate().is_err());
    }
}
