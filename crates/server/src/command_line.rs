//! The arguments, and the small subcommands that start no server.

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::builder::{PathBufValueParser, TypedValueParser};
use lipsync::{causes::with_causes, plain_path};
use lipsync_core::ModelId;
use lipsync_engine::{CpuIsa, LoadOptions, Precision};
use lipsync_registry::attach_data_files;
use lipsync_server::{Config, config::ConfigError};

use crate::tenants_text::TenantsText;

/// A gRPC server that makes faces speak.
#[derive(Debug, clap::Parser)]
#[command(version = env!("BUILT_VERSION"))]
pub struct CommandLine {
    /// What to do [default: serve].
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Configuration file. Environment variables override its keys, for example
    /// LIPSYNC_SERVER__WORKER_COUNT=8.
    #[arg(long, global = true, default_value = "config.yaml", value_parser = path())]
    pub config: PathBuf,
}

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT. SIGHUP reads the configuration again.
    Serve,
    /// Write a configuration with every key, its default and its meaning. Never overwrites a file.
    Init {
        /// Folder with the avatars. Default: avatars, beside the configuration.
        #[arg(long, value_name = "DIR", value_parser = path())]
        models_root: Option<PathBuf>,
    },
    /// Check the configuration and print a summary.
    CheckConfig {
        /// Also check every model, as check-avatar does.
        #[arg(long)]
        models: bool,
    },
    /// Check an avatar: all faults of its files at once, its speed, and whether its mouth follows speech.
    ///
    /// Needs no running server. Exits with 1 if there is an error.
    CheckAvatar(CheckAvatar),
    /// Make an avatar out of a folder of another project: SyncTalk_2D, Ultralight, a server package, LiveTalking.
    ///
    /// Frames are copied byte for byte. Never overwrites a file, and runs nothing that it finds.
    Import(Import),
    /// Bake the background frames of models into packs, ahead of the first request.
    ///
    /// Packs that exist are verified, and baked again only if they are damaged or stale.
    Bake {
        /// Bake only this model (repeatable). Default: all models.
        #[arg(long)]
        model: Vec<String>,
        /// Threads to use. Default: one per core.
        #[arg(long)]
        threads: Option<std::num::NonZeroUsize>,
    },
    /// Compare models in bf16, int16 and int8 with f32, on their own frames, and save the verdicts.
    ///
    /// With `precision: auto`, a model runs in one of them only if its worst frame reaches 45 dB. For int8, the
    /// command looks for the steps of the network that suit it, so that the mean also reaches 48 dB. The others
    /// stay in int16 or bf16.
    ComparePrecision {
        /// Compare only this model (repeatable). Default: all models.
        #[arg(long)]
        model: Vec<String>,
        /// Number of frames to compare, spread over all backgrounds.
        #[arg(long, default_value = "100")]
        frames: std::num::NonZeroU32,
    },
    /// Print the memory that the configured models need, and how many more would fit.
    ///
    /// Covers the CPU and GPUs. Needs no GPU.
    Plan {
        /// Plan for a GPU with this much memory (GiB) instead of the GPUs in this machine.
        #[arg(long)]
        device_memory_gb: Option<u32>,
    },
    /// Measure the configured models on this machine, and print the best settings as YAML to paste.
    ///
    /// Finds the number of workers, the batch, the sizes of caches, and the capacity: conversations at once with 95 % of
    /// answers within 200 ms. Says why. Measure on a machine that does nothing else, after `bake`. Changes nothing.
    Tune {
        /// Time that it may take, minutes (1 to 120).
        #[arg(long, default_value = "5", value_parser = minutes)]
        minutes: std::num::NonZeroU32,
        /// Also write the YAML to this file, which must not exist.
        #[arg(long, value_name = "FILE", value_parser = path())]
        write: Option<PathBuf>,
    },
    /// Make keys for tenants, or hash existing keys.
    Keys {
        /// Make or hash.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Describe an ONNX file: inputs, outputs, operators, work, what is fused, what is not supported.
    InspectModel {
        /// The ONNX file to describe.
        #[arg(value_parser = path())]
        file: PathBuf,
        /// Also print the steps of one frame: kernels, shapes, MACs, bytes, what is fused.
        #[arg(long)]
        plan: bool,
        /// Instruction set to plan for, as in `engine.cpu_isa`.
        #[arg(long, default_value = "auto", value_parser = cpu_isa, requires = "plan")]
        cpu_isa: CpuIsa,
        /// Number format to plan for: f32, bf16, int16 or int8.
        #[arg(long, default_value = "f32", value_parser = precision, requires = "plan")]
        precision: Precision,
    },
    /// Print the completions of a shell, for packages.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for packages.
    #[command(hide = true)]
    ManPage,
}

/// What to check an avatar with.
#[derive(Debug, clap::Args)]
pub struct CheckAvatar {
    /// Folder of the avatar, or the id of a configured model.
    pub avatar: String,
    /// Speech to try it with (WAV). Default: a built-in sentence.
    #[arg(long, value_name = "WAV", value_parser = path())]
    pub audio: Option<PathBuf>,
    /// Folder for pictures and a film to look at: rectangles.jpg, spoken.jpg, speech.avi. Never overwrites a file.
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: Option<PathBuf>,
    /// Audio encoder of a folder whose avatar.yaml names none.
    #[arg(long, value_name = "ONNX", value_parser = path())]
    pub audio_encoder: Option<PathBuf>,
}

/// What to import.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// Folder to read.
    #[arg(value_parser = path())]
    pub source: PathBuf,
    /// Folder to make. Its name becomes the model's id.
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub to: PathBuf,
    /// Generator (ONNX), if the folder has none or several.
    #[arg(long, value_name = "ONNX", value_parser = path())]
    pub generator: Option<PathBuf>,
    /// Audio encoder (ONNX), if the folder has none.
    #[arg(long, value_name = "ONNX", value_parser = path())]
    pub audio_encoder: Option<PathBuf>,
}

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Print a new key of 256 random bits, and its lines for the configuration.
    ///
    /// The key is shown this once. The server keeps only its SHA-256.
    New {
        /// Tenant that the key belongs to.
        #[arg(long, default_value = "acme")]
        tenant: String,
        /// Name of the key.
        #[arg(long, default_value = "main")]
        name: String,
    },
    /// Read a key from standard input, and print its lines for the configuration.
    ///
    /// The key is no argument, because everybody on the machine can see command lines.
    Hash {
        /// Tenant that the key belongs to.
        #[arg(long, default_value = "acme")]
        tenant: String,
        /// Name of the key.
        #[arg(long, default_value = "main")]
        name: String,
    },
}

/// A path that is not meant for a shell.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(plain_path::argument)
}

fn minutes(text: &str) -> Result<std::num::NonZeroU32, String> {
    let minutes = text.parse().ok().filter(|&minutes| minutes <= 120);
    minutes
        .and_then(std::num::NonZeroU32::new)
        .ok_or_else(|| "expected 1 to 120".into())
}

fn cpu_isa(text: &str) -> Result<CpuIsa, String> {
    CpuIsa::parse(text).ok_or_else(|| format!("expected {}", CpuIsa::EXPECTED))
}

fn precision(text: &str) -> Result<Precision, String> {
    Precision::parse(text).ok_or_else(|| "expected f32, bf16, int16 or int8".into())
}

/// The ids given with `--model`, or all configured ids if there are none.
pub fn models_named(config: &Config, names: &[String]) -> anyhow::Result<Vec<ModelId>> {
    if names.is_empty() {
        let models = config.registry.models.iter();
        return Ok(models.map(|model| model.id.clone()).collect());
    }
    let parse = |name: &String| ModelId::new(name).context("--model");
    names.iter().map(parse).collect()
}

/// Reads the configuration for a command that writes no log: warnings go to standard error.
pub fn load(file: &Path) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    for line in warnings_text(&config.warnings) {
        let _ = io::stderr().write_all(line.as_bytes());
    }
    Ok(config)
}

/// The same, or the defaults where there is no such file.
pub fn load_or_default(file: &Path) -> anyhow::Result<Config> {
    if file.exists() {
        load(file)
    } else {
        Ok(Config::parse("", file, [])?)
    }
}

/// `lipsync-server check-config`: checks the configuration and prints a summary.
pub fn check_config(file: &Path) -> anyhow::Result<Config> {
    let config = load(file)?;
    let of_operations = config.operations.as_ref().and_then(|of| of.tls.as_ref());
    for tls in config.tls.iter().chain(of_operations) {
        lipsync_server::tls::load(tls, b"")?;
    }
    let server = &config.server;
    say(&format_args!(
        "{}: good\n  listens on {}, {}, {} workers, queue of {}\n  {} models: {}",
        file.display(),
        server.address,
        config.operations.as_ref().map_or_else(
            || "no page".to_owned(),
            |o| format!("page on {}", o.address)
        ),
        server.workers,
        server.queue_capacity,
        config.registry.models.len(),
        config
            .registry
            .models
            .iter()
            .map(|m| m.id.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    ))?;
    let text = TenantsText(&config).to_string();
    if !text.is_empty() {
        say(&text.trim_end())?;
    }
    for missing in &config.missing {
        say(&format_args!("  {missing}: the model will be FAILED"))?;
    }
    Ok(config)
}

/// Reads an ONNX file, and the files beside it that hold its weights. As for models that are served, what is larger than a GiB is refused: it may be a device
/// without an end.
fn read_network(file: &Path) -> anyhow::Result<Vec<u8>> {
    let onnx = plain_path::read_at_most(file, MAX_NETWORK_BYTES);
    let onnx = onnx.with_context(|| format!("cannot read {}", file.display()))?;
    attach_data_files(file, onnx).map_err(|error| anyhow::anyhow!(error.detail()))
}

/// The most that the registry reads of a network.
const MAX_NETWORK_BYTES: u64 = 1 << 30;

/// `lipsync-server inspect-model`: exits with 1 if the network serves as nothing.
pub fn inspect_model(file: &Path, plan: Option<LoadOptions>) -> anyhow::Result<ExitCode> {
    let bytes = read_network(file)?;
    let inspection = lipsync_engine::inspect(&bytes)
        .with_context(|| format!("{} cannot be inspected", file.display()))?;
    // It ends its last line itself.
    say(&inspection.to_string().trim_end())?;
    let is_supported = inspection.unsupported.is_empty();
    if let Some(options) = plan
        && is_supported
    {
        say(&lipsync_engine::inspect_plan(&bytes, options)?)?;
    }
    Ok(if inspection.serves_as.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A command could not write its output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct Unsaid(#[from] io::Error);

impl Unsaid {
    /// The command's exit code. A reader that has gone (`| head`) has what it wanted, so the command ends
    /// quietly, as other tools do, with the status that a shell shows for SIGPIPE.
    pub fn end(&self) -> ExitCode {
        if self.0.kind() == io::ErrorKind::BrokenPipe {
            return ExitCode::from(EXIT_PIPE);
        }
        print_error(self);
        ExitCode::FAILURE
    }
}

/// 128 and the number of SIGPIPE.
const EXIT_PIPE: u8 = 128 + 13;

/// Prints for the person at the terminal.
pub fn say(text: &dyn Display) -> Result<(), Unsaid> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Prints an error with its causes.
pub fn complain(error: &anyhow::Error) {
    // If standard error is gone too, the exit code has to do.
    let _ = io::stderr().write_all(complaint(error).as_bytes());
}

/// An error with its causes, as lines.
pub fn complaint(error: &anyhow::Error) -> String {
    let Some(ConfigError::Refused { mistakes, warnings }) = error.downcast_ref() else {
        return format!("error: {}\n", with_causes(error.chain()));
    };
    let mistakes = mistakes.iter().map(|mistake| format!("error: {mistake}\n"));
    warnings_text(warnings).chain(mistakes).collect()
}

fn warnings_text(warnings: &[String]) -> impl Iterator<Item = String> {
    warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"))
}

/// Prints the argument parser's answer, which may be the help text, and gives the exit code.
pub fn refuse(refusal: &clap::Error) -> ExitCode {
    let printed = refusal.print().map_err(Unsaid);
    match printed {
        Err(unsaid) if !refusal.use_stderr() => unsaid.end(),
        _ => ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(1)),
    }
}

fn print_error(error: &dyn Display) {
    // If standard error is gone too, the exit code has to do.
    let _ = writeln!(io::stderr(), "error: {error}");
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::Parser as _;
    use lipsync_server::StartError;

    use super::*;

    #[test]
    fn a_path_that_only_a_shell_understands_is_refused() {
        for arguments in [
            &["lipsync-server", "--config=~/config.yaml"][..],
            &["lipsync-server", "inspect-model", "~/model.onnx"],
        ] {
            let refused = CommandLine::try_parse_from(arguments).unwrap_err();
            assert!(refused.to_string().contains("only a shell expands ~"));
        }
        assert!(CommandLine::try_parse_from(["lipsync-server", "--config=a~"]).is_ok());
    }

    #[test]
    fn a_cause_is_printed_once() {
        let taken = || io::Error::from(io::ErrorKind::AddrInUse);
        let words = taken().to_string();
        let address = "127.0.0.1:1".parse().expect("an address");
        for error in [
            anyhow::Error::from(StartError::Bind {
                address,
                source: taken(),
            }),
            StartError::BindOperations {
                address,
                source: taken(),
            }
            .into(),
            anyhow::Error::from(taken()).context("cannot start"),
        ] {
            let text = with_causes(error.chain());
            assert_eq!(text.matches(&words).count(), 1, "{text}");
        }
        let error = anyhow::Error::from(taken()).context("b").context("a");
        assert_eq!(with_causes(error.chain()), format!("a: b: {words}"));
    }
}
