//! `lipsync-server`: the command line.
#![forbid(unsafe_code)]

mod bake_command;
mod command_line;
mod compare_command;
mod plan_command;

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use lipsync_registry::PrecisionInUse;
use lipsync_server::{
    Config, DeviceRefused, RunningServer, StartError, banner::Banner, config, devices, process,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use command_line::{Command, CommandLine};

/// The configuration or the command line is wrong.
const EXIT_USAGE: u8 = 2;
/// The configuration asks for a device that cannot be had.
const EXIT_NO_DEVICE: u8 = 3;

fn main() -> ExitCode {
    let arguments = CommandLine::parse();
    let result = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(&arguments.config),
        Command::CheckConfig => command_line::check_config(&arguments.config),
        Command::Bake { model, threads } => bake_command::bake(&arguments.config, &model, threads),
        Command::ComparePrecision { model, frames } => {
            compare_command::compare_precision(&arguments.config, &model, frames)
        }
        Command::Plan { device_memory_gb } => {
            plan_command::plan(&arguments.config, device_memory_gb)
        }
        Command::InspectModel {
            file,
            plan,
            cpu_isa,
        } => command_line::inspect_model(&file, plan, cpu_isa),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            command_line::complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
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

fn serve(file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    start_logging(&config.logging);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(run(config))?;
    // What is still blocked (a load of a huge model, say) must not hold up the exit.
    runtime.shutdown_background();
    Ok(code)
}

async fn run(config: Config) -> anyhow::Result<ExitCode> {
    // Before anything is said to be ready, so that no signal is lost.
    let mut signals = signals()?;
    // Opening a device compiles kernels for it, which takes its time.
    let choice = config.engine.device;
    let cudas = tokio::task::spawn_blocking(move || devices::open(choice)).await??;
    let ending = process::run(config, cudas, &mut signals, announce).await?;
    Ok(ExitCode::from(ending.exit_code()))
}

/// SIGTERM and SIGINT, as they come.
fn signals() -> anyhow::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, signals) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // The second one ends the process, whatever becomes of a third.
            let _ = sender.try_send(());
        }
    });
    Ok(signals)
}

fn announce(running: &RunningServer) {
    let shared = running.shared();
    let models = shared.registry.list();
    let banner = Banner {
        address: running.address(),
        operations: running.operations_address(),
        device: &shared.device,
        gpus: shared.gpus.latest(),
        n_workers: shared.pipeline.workers.stats().workers.len(),
        queue_capacity: shared.limits.queue_capacity,
        models: models
            .iter()
            .map(|m| {
                (
                    m.id.to_string(),
                    m.precision.as_ref().map(PrecisionInUse::name),
                )
            })
            .collect(),
    };
    command_line::say(&banner);
}

fn start_logging(logging: &config::Logging) {
    let filter = tracing_subscriber::EnvFilter::new(&logging.level);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match logging.format {
        config::LogFormat::Text => lines.init(),
        config::LogFormat::Json => lines.json().init(),
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
            choice: config::DeviceChoice::Cuda,
            reason: "there is none".into(),
        };
        assert_eq!(exit_code(&refused.into()), EXIT_NO_DEVICE);
        let reflection = StartError::Reflection("cut off".into());
        assert_eq!(exit_code(&reflection.into()), EXIT_USAGE);
    }
}
