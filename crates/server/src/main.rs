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
    Config, DeviceRefused, EngineLoader, RunningServer, Server, banner::Banner, config, devices,
    gpus::NvmlProbe,
};
use tokio::signal::unix::{SignalKind, signal};

use command_line::{Command, CommandLine};

/// The configuration or the command line is wrong.
const EXIT_USAGE: u8 = 2;
/// The configuration asks for a device that cannot be had.
const EXIT_NO_DEVICE: u8 = 3;
/// A device failed for good: start the process anew.
const EXIT_DEVICE_LOST: u8 = 4;
/// A second signal came while draining.
const EXIT_FORCED: u8 = 130;

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
            let code = match error.downcast_ref::<DeviceRefused>() {
                Some(_) => EXIT_NO_DEVICE,
                None => EXIT_USAGE,
            };
            ExitCode::from(code)
        }
    }
}

fn serve(file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    start_logging(&config.logging);
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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Opening a device compiles kernels for it, which takes its time.
    let choice = config.engine.device;
    let cudas = tokio::task::spawn_blocking(move || devices::open(choice)).await??;
    let probe = NvmlProbe::find(cudas.iter().map(|cuda| cuda.info().clone()).collect());
    let loader = EngineLoader::choose(&config, cudas)?;
    let starting = async {
        let mut server = Server::bind(config, loader).await?;
        if let Some(probe) = probe {
            server.watch_gpus(probe).await;
        }
        server.start().await
    };
    let mut running = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    announce(&running);
    let lost = running.device_lost();
    let is_lost = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        lost = lost => {
            tracing::error!(device = %lost.device, reason = lost.reason, "a device is lost, the server ends");
            true
        }
        () = running.ended() => return Ok(ExitCode::FAILURE),
    };
    let draining = async {
        if !is_lost {
            running.pre_drain().await;
        }
        running.shut_down().await
    };
    tokio::select! {
        all_done = draining => {
            if !all_done {
                tracing::warn!("the grace ended before everything was finished");
            }
            Ok(if is_lost {
                ExitCode::from(EXIT_DEVICE_LOST)
            } else {
                ExitCode::SUCCESS
            })
        }
        _ = terminate.recv() => Ok(ExitCode::from(EXIT_FORCED)),
        _ = interrupt.recv() => Ok(ExitCode::from(EXIT_FORCED)),
    }
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
