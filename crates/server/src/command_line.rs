//! The arguments, and the small subcommands that serve nothing.

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use lipsync_core::ModelId;
use lipsync_engine::CpuIsa;
use lipsync_server::{Config, config::ConfigError};

/// A gRPC server that makes faces speak.
#[derive(Debug, clap::Parser)]
#[command(version = env!("LIPSYNC_VERSION"))]
pub struct CommandLine {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The configuration. Any key of it can be overridden by an environment variable such as
    /// LIPSYNC_SERVER__WORKER_COUNT=8.
    #[arg(long, global = true, default_value = "config.yaml")]
    pub config: PathBuf,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve until SIGTERM, SIGINT or SIGHUP.
    Serve,
    /// Read and check the configuration, and say what it amounts to.
    CheckConfig,
    /// Bake the packs of models beforehand: their background frames, ready to be served. A pack that
    /// is there is verified, and left as it is when it is whole and current.
    Bake {
        /// Only this model; all of them when nothing is said. May be given several times.
        #[arg(long)]
        model: Vec<String>,
        /// Threads to bake with; one a core when nothing is said.
        #[arg(long)]
        threads: Option<std::num::NonZeroUsize>,
    },
    /// Compare the frames of models in bf16 with those in f32, on their own backgrounds, and write down
    /// what was found: with `precision: auto`, a model whose worst frame reaches 45 dB runs in bf16.
    ComparePrecision {
        /// Only this model; all of them when nothing is said. May be given several times.
        #[arg(long)]
        model: Vec<String>,
        /// Frames to compare, spread over all backgrounds.
        #[arg(long, default_value = "100")]
        frames: std::num::NonZeroU32,
    },
    /// Say what the configured models take of memory, on the CPU and on GPUs, and how many more fit. Needs no
    /// GPU.
    Plan {
        /// Plan for GPUs of so much memory, GiB, instead of those of this machine.
        #[arg(long)]
        device_memory_gb: Option<u32>,
    },
    /// Say what an ONNX file holds: inputs, outputs, operators, work, what is fused, what is
    /// unsupported.
    InspectModel {
        /// The ONNX file.
        file: PathBuf,
        /// Also say what one frame runs, step by step: kernels, shapes, MACs, bytes, what is fused.
        #[arg(long)]
        plan: bool,
        /// For which instructions to plan, as `engine.cpu_isa` names them.
        #[arg(long, default_value = "auto", value_parser = cpu_isa, requires = "plan")]
        cpu_isa: CpuIsa,
    },
}

fn cpu_isa(text: &str) -> Result<CpuIsa, String> {
    CpuIsa::parse(text).ok_or_else(|| "no such instruction set".into())
}

/// The ids that were given with `--model`; all of the configuration where there is none.
pub fn models_named(config: &Config, names: &[String]) -> anyhow::Result<Vec<ModelId>> {
    if names.is_empty() {
        let models = config.registry.models.iter();
        return Ok(models.map(|model| model.id.clone()).collect());
    }
    let parse = |name: &String| ModelId::new(name).context("--model");
    names.iter().map(parse).collect()
}

/// Reads the configuration for a command that writes no log: what is probably not meant is said beside its answer.
pub fn load(file: &Path) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    for line in warnings_text(&config.warnings) {
        let _ = io::stderr().write_all(line.as_bytes());
    }
    Ok(config)
}

/// `check-config`.
pub fn check_config(file: &Path) -> anyhow::Result<ExitCode> {
    let config = load(file)?;
    let server = &config.server;
    say(&format_args!(
        "{}: good\n  listens on {}, {}, {} workers, queue of {}\n  {} models: {}",
        file.display(),
        server.address,
        config.operations.as_ref().map_or_else(
            || "no page".to_owned(),
            |o| format!("page on {}", o.address)
        ),
        server.n_workers,
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
    for missing in &config.missing {
        say(&format_args!("  {missing}: the model will be FAILED"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `inspect-model`: exits with 1 when something is unsupported.
pub fn inspect_model(file: &Path, plan: bool, isa: CpuIsa) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let inspection = lipsync_engine::inspect(&bytes)
        .with_context(|| format!("{} cannot be inspected", file.display()))?;
    say(&inspection)?;
    let is_supported = inspection.unsupported.is_empty();
    if plan && is_supported {
        say(&lipsync_engine::inspect_plan(&bytes, isa)?)?;
    }
    Ok(if is_supported {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Standard output did not take what a command had to say.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct Unsaid(#[from] io::Error);

impl Unsaid {
    /// How the command ends. Whoever reads no further (`| head`) has all that they want: that is the quiet
    /// end of other tools, whose status a shell shows as [`EXIT_PIPE`].
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

/// Prints what went wrong, with its causes.
pub fn complain(error: &anyhow::Error) {
    // Where even standard error is gone, the exit code says it.
    let _ = io::stderr().write_all(complaint(error).as_bytes());
}

/// What went wrong, with its causes, in lines.
pub fn complaint(error: &anyhow::Error) -> String {
    let Some(ConfigError::Refused { mistakes, warnings }) = error.downcast_ref() else {
        return format!("error: {}\n", with_causes(error));
    };
    let mistakes = mistakes.iter().map(|mistake| format!("error: {mistake}\n"));
    warnings_text(warnings).chain(mistakes).collect()
}

fn warnings_text(warnings: &[String]) -> impl Iterator<Item = String> {
    warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"))
}

/// Prints what the parser of arguments has to say, and gives the exit code: that may be help that was asked for.
pub fn refuse(refusal: &clap::Error) -> ExitCode {
    let printed = refusal.print().map_err(Unsaid);
    match printed {
        Err(unsaid) if !refusal.use_stderr() => unsaid.end(),
        _ => ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(1)),
    }
}

fn print_error(error: &dyn Display) {
    // Where even standard error is gone, the exit code says it.
    let _ = writeln!(io::stderr(), "error: {error}");
}

/// An error and its causes, but for those that it words itself.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use lipsync_server::StartError;

    use super::*;

    #[test]
    fn what_the_system_says_is_said_once() {
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
            let text = with_causes(&error);
            assert_eq!(text.matches(&words).count(), 1, "{text}");
        }
        let error = anyhow::Error::from(taken()).context("b").context("a");
        assert_eq!(with_causes(&error), format!("a: b: {words}"));
    }
}
