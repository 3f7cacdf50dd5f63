//! `lipsync-server`: the command line.
#![forbid(unsafe_code)]

mod bake_command;
mod command_line;
mod compare_command;

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::Parser as _;
use lipsync_registry::PrecisionInUse;
use lipsync_server::{Config, CpuLoader, RunningServer, Server, banner::Banner, config};
use tokio::signal::unix::{SignalKind, signal};

use command_line::{Command, CommandLine};

/// The configuration or the command line is wrong.
const EXIT_USAGE: u8 = 2;
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
            ExitCode::from(EXIT_USAGE)
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
    let loader = Arc::new(CpuLoader::new(
        config.engine.cpu_isa,
        config.engine.visual_cache_bytes,
    ));
    let starting = async { Server::bind(config, loader).await?.start().await };
    let mut running = tokio::select! {
        started = starting => started?,
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    announce(&running);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = running.ended() => return Ok(ExitCode::FAILURE),
    }
    let draining = async {
        running.pre_drain().await;
        running.shut_down().await
    };
    tokio::select! {
        all_done = draining => {
            if !all_done {
                tracing::warn!("the grace ended before everything was finished");
            }
            Ok(ExitCode::SUCCESS)
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
        n_workers: shared.limits.n_workers,
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
