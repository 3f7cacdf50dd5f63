//! A server as a process: from its start to the reason why it ends.
//!
//! What only a binary has is not here: the command line, logging, the system's signals. So tests run the
//! same, on devices of their own.

use std::sync::Arc;

use lipsync_engine::cuda::Cuda;
use lipsync_worker_pool::LostDevice;
use tokio::sync::mpsc;

use crate::{
    Config, EngineLoader,
    gpus::NvmlProbe,
    serve::{RunningServer, Server, StartError},
};

/// Why a server's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was told to, and drained.
    Drained,
    /// It stopped listening by itself.
    Stopped,
    /// A device failed for good: start the process anew.
    DeviceLost(LostDevice),
    /// It was told to a second time, while draining.
    Forced,
}

impl Ending {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::Stopped => 1,
            Self::DeviceLost(_) => 4,
            Self::Forced => 130,
        }
    }
}

/// Serves on these devices, or on the CPU where there are none, until a signal comes or the server cannot
/// go on. `announce` is called once it is ready. Every message is a signal, and so is the end of the channel.
///
/// # Errors
/// See [`StartError`]; a device that is lost before the server is ready is no such error, but
/// [`Ending::DeviceLost`].
pub async fn run(
    config: Config,
    cudas: Vec<Arc<Cuda>>,
    signals: &mut mpsc::Receiver<()>,
    announce: impl FnOnce(&RunningServer),
) -> Result<Ending, StartError> {
    let started = tokio::select! {
        started = start(config, cudas) => started,
        _ = signals.recv() => return Ok(Ending::Drained),
    };
    let mut running = match started {
        Ok(running) => running,
        Err(StartError::DeviceLost(lost)) => {
            tell(&lost);
            return Ok(Ending::DeviceLost(lost));
        }
        Err(error) => return Err(error),
    };
    announce(&running);
    let lost = running.device_lost();
    let lost = tokio::select! {
        _ = signals.recv() => None,
        lost = lost => Some(lost),
        () = running.ended() => return Ok(Ending::Stopped),
    };
    if let Some(lost) = &lost {
        tell(lost);
    }
    let draining = async {
        if lost.is_none() {
            running.pre_drain().await;
        }
        running.shut_down().await
    };
    tokio::select! {
        all_done = draining => {
            if !all_done {
                tracing::warn!("server.shutdown_grace_s is over, but some work was not finished");
            }
            Ok(lost.map_or(Ending::Drained, Ending::DeviceLost))
        }
        _ = signals.recv() => Ok(Ending::Forced),
    }
}

async fn start(config: Config, cudas: Vec<Arc<Cuda>>) -> Result<RunningServer, StartError> {
    let probe = NvmlProbe::find(cudas.iter().map(|cuda| cuda.info().clone()).collect());
    let loader = EngineLoader::choose(&config, cudas)?;
    let mut server = Server::bind(config, loader).await?;
    if let Some(probe) = probe {
        server.watch_gpus(probe).await;
    }
    server.start().await
}

fn tell(LostDevice { device, reason }: &LostDevice) {
    tracing::error!(%device, reason, "a device is lost; the server is stopping");
}
