//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{
    Parser, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser},
};
use lipsync::{
    plain_path,
    v1::{OutputFormat, OutputOptions, Pacing, Priority},
};
use serde::Serialize;

use crate::{
    profile::{Profile, TURN},
    tenant::{Secret, Tenant},
};

/// The most users that one process simulates.
pub const MAX_USERS: u64 = 100_000;
const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// Measure a lipsync server under load, as its clients see it.
///
/// Latency counts from the moment a request was due (open loop), so a server that falls behind
/// cannot hide it by slowing the client down. Only `--profile saturate` is a closed loop.
///
/// A frame that is not back in time is missed. A request for n frames must be back n / fps seconds
/// after it was due to be sent, because its frames are shown while the next request runs. With
/// --stream, a frame is due one chunk's time after the audio that it needs (look-ahead included) was
/// due to be sent. With --pacing realtime the server keeps the time. A frame is then due when a
/// player shows it that starts --player-buffer after the first frame of the utterance.
///
/// Live sessions (--stream) report more:
///
/// First frame after its audio: the time from when the audio for an utterance's first frame
/// (look-ahead included) was due to be sent, until that frame arrives.
///
/// Frame interval: the time between two frames of one utterance. With --idle-frames and --pacing
/// realtime, the time between any two successive frames.
///
/// Clear to cleared: the time from the client's interruption to the server's confirmation. Frames of
/// the utterance that were not due by then are not missed. A frame after the confirmation counts as
/// `invalid protocol`.
///
/// Drift: how much further frames lag behind their audio in a session's last second than in its
/// first (medians). The report shows the worst session.
///
/// Exit status: 0 passed, 1 could not run, 2 wrong arguments, 3 error budget exceeded (with
/// --find-max-users: not even one user could be served; with --compare-alone: frames differ or there
/// are none).
#[derive(Debug, Clone, Parser, Serialize)]
#[command(name = "lipsync-load-test", version = env!("BUILT_VERSION"))]
pub struct Args {
    /// Server address: host:port, or https://host:port for TLS.
    #[arg(long, default_value = "127.0.0.1:50051")]
    pub addr: String,
    /// CA certificates (PEM) to trust for https instead of the system's.
    #[arg(long, value_name = "FILE", env = "LIPSYNC_CA", value_parser = path())]
    pub ca: Option<PathBuf>,
    /// Key of the tenant that all users belong to, or @VARIABLE for the one in an environment variable.
    #[arg(
        long,
        value_name = "KEY",
        env = "LIPSYNC_API_KEY",
        hide_env_values = true,
        conflicts_with = "tenants"
    )]
    pub key: Option<Secret>,
    /// Tenant among several that share the users, as NAME=KEY:SHARE or NAME=KEY:SHARE:MODEL+MODEL (repeatable). KEY may be
    /// @VARIABLE, which names an environment variable: everybody on the machine can see command lines. The report has
    /// the figures of each.
    #[arg(long = "tenant", value_name = "NAME=KEY:SHARE")]
    pub tenants: Vec<Tenant>,
    /// Priority of the requests [default: the tenant's default].
    #[arg(long, value_enum)]
    pub priority: Option<Level>,
    /// Model to request (repeatable, or separated by commas). Users are spread over all of them.
    #[arg(long = "model", value_delimiter = ',', default_value = "mira")]
    pub models: Vec<String>,
    /// Number of simulated users.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MAX_USERS))]
    pub users: u64,
    /// How long to measure, for example 30s, 500ms or 2m [default: 30s; with --find-max-users 15s per probe].
    #[arg(long, value_parser = parse_duration)]
    #[serde(serialize_with = "as_optional_seconds")]
    pub duration: Option<Duration>,
    /// How long to warm up before measuring.
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    #[serde(serialize_with = "as_seconds")]
    pub warm_up: Duration,
    /// How users behave.
    #[arg(long, value_enum, default_value = "conversational")]
    pub profile: Profile,
    /// Requests per second over all users, for --profile rate.
    #[arg(long, value_parser = parse_rate, required_if_eq("profile", "rate"))]
    pub rate: Option<f64>,
    /// Frames per request. With --stream: frames of audio per chunk.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// Frames per second that a speaking user consumes [default: the model's].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub fps: Option<u32>,
    /// Use live sessions (StreamComposite) instead of unary requests.
    #[arg(long)]
    pub stream: bool,
    /// When frames leave the server.
    #[arg(long, value_enum, default_value = "asap", requires = "stream")]
    pub pacing: Pace,
    /// Request frames in silence and between utterances. Needs --stream.
    #[arg(long, requires = "stream")]
    pub idle_frames: bool,
    /// Interrupt each utterance at this interval, for example 2s. The rest follows at once as another
    /// utterance. Needs --stream.
    #[arg(long, value_parser = parse_duration, requires = "stream")]
    #[serde(serialize_with = "as_optional_seconds")]
    pub interrupt_every: Option<Duration>,
    /// With --pacing realtime: how long after an utterance's first frame a player starts to show it.
    #[arg(long, value_parser = parse_duration, default_value = "80ms")]
    #[serde(serialize_with = "as_seconds")]
    pub player_buffer: Duration,
    /// WAV file that users speak [default: speech-like sound, different for each user].
    #[arg(long, value_name = "FILE.wav", value_parser = path())]
    pub audio: Option<PathBuf>,
    /// What to send. Steps and windows are made up, and spare the server the audio encoder.
    #[arg(long, value_enum, default_value = "pcm")]
    pub input: Input,
    /// Extra frames of audio to send before and after the requested frames, so that cut speech gives
    /// whole windows. For unary requests with samples or steps.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=64))]
    pub context: u32,
    /// Format of the frames.
    #[arg(long, value_enum, default_value = "jpeg")]
    pub format: Format,
    /// JPEG quality, 1 to 100; 0 = the server's default.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub quality: u32,
    /// Request only the face rectangle of each frame.
    #[arg(long)]
    pub region_only: bool,
    /// Time limit for an answer, also sent to the server as the deadline.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    #[serde(serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// Number of connections that users share.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// Also write the whole report to this file, as JSON.
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub json: Option<PathBuf>,
    /// Search for the most users that the server can serve within --slo-p95-ms and --max-error-rate:
    /// doubling, then bisection to 5 %. Ignores --users.
    #[arg(long, conflicts_with = "rate")]
    pub find_max_users: bool,
    /// Number of users in the first probe of --find-max-users. Short probes need several: a single user of
    /// --profile conversational is silent most of the time, and a probe without requests measures nothing.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_USERS),
        requires = "find_max_users")]
    pub first_users: u64,
    /// Compare instead of measuring: each of --users requests the same frames first alone, then all
    /// at once. The frames must be equal byte for byte.
    #[arg(long, conflicts_with_all = ["find_max_users", "stream", "rate"])]
    pub compare_alone: bool,
    /// 95th percentile of latency that --find-max-users allows, ms.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub slo_p95_ms: u64,
    /// Share of failed requests to tolerate, 0 to 1.
    #[arg(long, default_value_t = 0.01, value_parser = parse_share)]
    pub max_error_rate: f64,
    /// Seed for phases and voices.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Show no progress bar.
    #[arg(long)]
    pub quiet: bool,
}

/// Kind of audio to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// PCM samples.
    Pcm,
    /// Feature steps.
    Steps,
    /// Feature windows.
    Windows,
}

/// Priority of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Goes before the others.
    High,
    /// The usual level.
    Normal,
    /// Goes after the others.
    Low,
}

impl Level {
    /// The value on the wire.
    #[must_use]
    pub fn to_proto(self) -> Priority {
        match self {
            Self::High => Priority::High,
            Self::Normal => Priority::Normal,
            Self::Low => Priority::Low,
        }
    }
}

/// When frames leave the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Frames leave as soon as they are made.
    Asap,
    /// Frames leave in real time.
    Realtime,
}

impl Pace {
    /// The value on the wire.
    #[must_use]
    pub fn to_proto(self) -> Pacing {
        match self {
            Self::Asap => Pacing::Asap,
            Self::Realtime => Pacing::Realtime,
        }
    }
}

/// Format of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Baseline JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// Raw RGB.
    Rgb,
    /// Raw planar YUV 4:2:0, BT.601 full range.
    I420,
    /// Raw planar YUV 4:2:0, BT.601 limited range.
    I420LimitedBt601,
    /// Raw planar YUV 4:2:0, BT.709 limited range.
    I420LimitedBt709,
}

impl Format {
    /// The value on the wire.
    #[must_use]
    pub fn to_proto(self) -> OutputFormat {
        match self {
            Self::Jpeg => OutputFormat::Jpeg,
            Self::Png => OutputFormat::Png,
            Self::Rgb => OutputFormat::Rgb,
            Self::I420 => OutputFormat::I420,
            Self::I420LimitedBt601 => OutputFormat::I420LimitedBt601,
            Self::I420LimitedBt709 => OutputFormat::I420LimitedBt709,
        }
    }
}

impl Args {
    /// Checks arguments against each other.
    ///
    /// # Errors
    /// A message for the user.
    pub fn validate(&self) -> Result<(), String> {
        if self.stream && self.profile == Profile::Rate {
            return Err(
                "--profile rate: not with --stream, where the audio sets the rate".to_owned(),
            );
        }
        if self.find_max_users && self.profile == Profile::Rate {
            return Err(
                "--profile rate: not with --find-max-users, whose load grows with users".to_owned(),
            );
        }
        if self.fps.is_some() && self.pacing == Pace::Realtime {
            return Err(
                "--fps: not with --pacing realtime, where the model sets the rate".to_owned(),
            );
        }
        if self.interrupt_every.is_some_and(|every| every.is_zero()) {
            return Err("--interrupt-every: expected a time above 0".to_owned());
        }
        let mut names: Vec<_> = self.tenants.iter().map(|tenant| &tenant.name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("--tenant: {} is there twice", twice[0]));
        }
        if self.models.iter().any(String::is_empty) {
            return Err("--model: expected a name, got an empty one".to_owned());
        }
        Ok(())
    }

    /// How long one run measures.
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

    /// The output options of all requests.
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
        .ok_or_else(|| "expected a time such as 500ms, 30s or 2m, at most 24 hours".to_owned())
}

/// A path that is not meant for a shell.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(plain_path::argument)
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
    fn a_path_that_only_a_shell_understands_is_refused() {
        for option in ["--audio", "--json", "--ca"] {
            let refused = parse(&format!("{option}=~/file")).expect_err(option);
            assert!(refused.to_string().contains("only a shell expands ~"));
            assert!(parse(&format!("{option}=/file")).is_ok());
        }
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
            "--key k --tenant a=k",
            "--tenant a",
            "--priority urgent",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let args = parse("--profile rate --rate 5 --stream").expect("each is fine alone");
        assert!(args.validate().is_err());
        let args = parse("--tenant a=k --tenant a=l").expect("each is fine alone");
        assert!(args.validate().is_err());
        let args = parse("--stream --pacing realtime --fps 5").expect("each is fine alone");
        assert!(args.validate().is_err());
    }
}
