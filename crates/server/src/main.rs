//! `lipsync-server`: the command line.
#![forbid(unsafe_code)]
// `eprintln!` panics if standard error is gone, and blocks if nobody reads it.
#![deny(clippy::print_stderr)]

mod bake_command;
mod check_avatar_command;
mod command_line;
mod compare_command;
mod import_command;
mod init_command;
mod int8_steps;
mod keys_command;
mod plan_command;
mod shell_command;
mod signals;
mod tenants_text;
mod tune_command;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use lipsync_engine::{CpuIsa, LoadOptions};
use lipsync_registry::PrecisionInUse;
use lipsync_server::{
    Config, DeviceRefused, RunningServer, StartError,
    banner::Banner,
    config::{LogFormat, WorkerCount},
    devices,
    output::{Log, Output},
    process,
};

use command_line::{Command, CommandLine, Unsaid};

/// The configuration or the command line is wrong.
const EXIT_USAGE: u8 = 2;
/// The configuration asks for a device that cannot be had.
const EXIT_NO_DEVICE: u8 = 3;
/// For standard error, and then for standard output, to take what is left when the server ends.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    // Where it is refused, the defaults of the C library serve as well, with more memory.
    let _taken = lipsync_engine::heap::configure();
    let arguments = match CommandLine::try_parse() {
        Ok(arguments) => arguments,
        Err(refusal) => return command_line::refuse(&refusal),
    };
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => return serve(&arguments.config),
        Command::Init { models_root } => init_command::init(&arguments.config, models_root),
        Command::CheckConfig { models } => check_config(&arguments.config, models),
        Command::Import(of) => import_command::import(&arguments.config, of),
        Command::CheckAvatar(of) => check_avatar_command::check_avatar(&arguments.config, of),
        Command::Bake { model, threads } => bake_command::bake(&arguments.config, &model, threads),
        Command::ComparePrecision { model, frames } => {
            compare_command::compare_precision(&arguments.config, &model, frames)
        }
        Command::Plan { device_memory_gb } => {
            plan_command::plan(&arguments.config, device_memory_gb)
        }
        Command::Tune { minutes, write } => tune_command::tune(&arguments.config, minutes, write),
        Command::Keys { command } => keys_command::keys(command),
        Command::InspectModel {
            file,
            plan,
            cpu_isa,
            precision,
        } => {
            let suited = cpu_isa.resolve().map(|isa| precision.suited_to(isa));
            let options = LoadOptions {
                precision: suited.unwrap_or(precision),
                ..LoadOptions::from(cpu_isa)
            };
            command_line::inspect_model(&file, plan.then_some(options))
        }
        Command::Completions { shell } => shell_command::completions(shell),
        Command::ManPage => shell_command::man_page(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            if let Some(unsaid) = error.downcast_ref::<Unsaid>() {
                return unsaid.end();
            }
            command_line::complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Checks the configuration, and the avatars that it names where that is asked for.
fn check_config(file: &Path, models: bool) -> anyhow::Result<ExitCode> {
    let config = command_line::check_config(file)?;
    if models && check_avatar_command::check_models(config)? > 0 {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let is_refused = error.is::<DeviceRefused>();
    // It was opened, but does not even say how much memory it has.
    let is_mute = matches!(error.downcast_ref(), Some(StartError::Device(_)));
    if is_refused || is_mute {
        EXIT_NO_DEVICE
    } else {
        EXIT_USAGE
    }
}

/// Serves. A full disk or an unread pipe behind the log or standard output never stops the server.
fn serve(file: &Path) -> ExitCode {
    let (log, stdout) = (Log::start(), Output::stdout());
    let code = match serve_with(file, &log, &stdout) {
        Ok(code) => code,
        Err(error) => {
            log.write(&command_line::complaint(&error));
            ExitCode::from(exit_code(&error))
        }
    };
    log.close(LAST_WORDS_LIMIT);
    stdout.close(LAST_WORDS_LIMIT);
    code
}

fn serve_with(file: &Path, log: &Log, stdout: &Output) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    config.make_cache_dir()?;
    log.subscribe(&config.logging).context("logging.level")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = config.exposure() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(run(config, log, stdout))?;
    // What is still blocked (a load of a huge model, say) must not hold up the exit.
    runtime.shutdown_background();
    Ok(code)
}

async fn run(config: Config, log: &Log, stdout: &Output) -> anyhow::Result<ExitCode> {
    warn_if_portable(config.engine.cpu_isa);
    // Before anything claims to be ready, so that no signal is lost.
    let mut signals = signals::watch()?;
    // Opening a device compiles kernels for it, which takes its time.
    let choice = config.engine.device;
    let how = config.engine.gpu.clone();
    let format = config.logging.format;
    let mut hang_ups = signals::hang_ups()?;
    let cudas = tokio::task::spawn_blocking(move || devices::open(choice, &how)).await??;
    let config = if cudas.is_empty() {
        on_cpu(config)
    } else {
        config
    };
    let announce = |running: &RunningServer| {
        let shared = running.shared();
        tokio::spawn(log.clone().follow(shared.live.watch()));
        if let Some(hang_ups) = hang_ups.take() {
            tokio::spawn(signals::reload_at(hang_ups, shared.reload.clone()));
        }
        announce(running, stdout, format);
    };
    let ending = process::run(config, cudas, &mut signals, announce).await?;
    Ok(ExitCode::from(ending.exit_code()))
}

/// The same, with as many workers as the CPU engine runs.
fn on_cpu(mut config: Config) -> Config {
    let workers = config.server.workers.on_cpu();
    if workers != config.server.workers {
        let asked = config.server.workers;
        tracing::info!(
            "server.worker_count is {asked}, but a worker on the CPU needs a core of its own: {workers} run"
        );
        config.server.workers = workers;
    }
    config
}

/// In which numbers a model runs, and why.
fn in_words(precision: &PrecisionInUse) -> String {
    format!("{}: {}", precision.name(), precision.reason)
}

/// Warns if the CPU engine runs without vectors of the CPU's own, because nobody would choose that.
fn warn_if_portable(isa: CpuIsa) {
    let is_portable = isa.resolve().is_ok_and(|isa| isa.name() == "portable");
    let has_others = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    if has_others && is_portable {
        tracing::warn!(
            "the CPU engine runs its portable kernels, several times slower than others: {}",
            if isa == CpuIsa::Portable {
                "engine.cpu_isa says so"
            } else {
                "this CPU, or what the hypervisor shows of it, has no AVX2 and FMA"
            }
        );
    }
}

/// On standard output for people; in the log where programs read it.
fn announce(running: &RunningServer, stdout: &Output, format: LogFormat) {
    let shared = running.shared();
    let models = shared.registry.list();
    let banner = Banner {
        address: running.address(),
        operations: running.operations_address(),
        tls: running.is_encrypted(),
        has_tenants: !shared.hot().tenants.is_empty(),
        device: &shared.device,
        gpus: shared.gpus.latest(),
        workers: match shared.limits.workers {
            // Every device has one.
            WorkerCount::Fixed(_) => {
                WorkerCount::Fixed(shared.pipeline.workers.stats().n_workers())
            }
            adapted => adapted,
        },
        queue_capacity: shared.limits.queue_capacity,
        models: models
            .iter()
            .map(|m| (m.id.to_string(), m.precision.as_ref().map(in_words)))
            .collect(),
    };
    match format {
        LogFormat::Text => {
            stdout.write(&format!("{banner}\n"));
            let operations = banner.operations.map(tracing::field::display);
            tracing::info!(address = %banner.address, operations, "ready");
        }
        LogFormat::Json => banner.log(),
    }
}

#[cfg(test)]
mod tests {
    use lipsync_engine::EngineError;

    use super::*;

    #[test]
    fn a_device_that_cannot_be_had_is_no_mistake_in_the_configuration() {
        let device = StartError::Device(EngineError::DeviceUnavailable {
            reason: "it says nothing".into(),
        });
        assert_eq!(exit_code(&device.into()), EXIT_NO_DEVICE);
        let refused = DeviceRefused {
            choice: lipsync_server::config::DeviceChoice::Cuda,
            reason: "there is none".into(),
        };
        assert_eq!(exit_code(&refused.into()), EXIT_NO_DEVICE);
        let reflection = StartError::Reflection("cut off".into());
        assert_eq!(exit_code(&reflection.into()), EXIT_USAGE);
    }
}
