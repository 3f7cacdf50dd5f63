//! A server that serves, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lipsync_serving::phase::Phase;
use lipsync_worker_pool::LostDevice;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use super::error::StartError;
use crate::{core_state::Shared, operations::Operations, telemetry::save_history};

/// What each step of closing may take once nothing runs any more, such as the graceful close of the connections: one
/// that never spoke would hold it up for ever.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// The same where the grace is all but over: answers that are made are written in this time.
const MIN_CLOSE: Duration = Duration::from_millis(50);
/// Of the grace, closing has this last part, or a quarter of a short one.
const CLOSING: Duration = Duration::from_millis(500);
/// What a first look at all models may take before the server is ready.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// A server that serves.
#[derive(Debug)]
pub struct RunningServer {
    pub(super) address: SocketAddr,
    pub(super) is_encrypted: (bool, bool),
    pub(super) operations: Option<Operations>,
    pub(super) shared: Arc<Shared>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) close: watch::Sender<()>,
    pub(super) serving: JoinHandle<()>,
    /// What goes on beside serving, until the end.
    pub(super) attendants: Vec<JoinHandle<()>>,
}

/// The end of the grace, which the steps of closing share.
struct Closing {
    until: Instant,
}

impl Closing {
    /// What the next step may take: half of what is left, so that there is some for those after it.
    fn step(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        (left / 2).clamp(MIN_CLOSE, CLOSE_LIMIT)
    }
}

impl RunningServer {
    /// Where it listens; the port is the real one even if 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the page and the probes are, unless they are switched off.
    #[must_use]
    pub fn operations_address(&self) -> Option<SocketAddr> {
        self.operations.as_ref().map(Operations::address)
    }

    /// Whether each of the ports of gRPC and of the page is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> (bool, bool) {
        self.is_encrypted
    }

    /// What the services share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns only if the server stops listening by itself, which it should never do.
    pub async fn ended(&mut self) {
        match (&mut self.serving).await {
            Ok(()) => tracing::error!("the server stopped"),
            Err(error) => tracing::error!(%error, "the server stopped"),
        }
    }

    /// Returns when a device has failed for good. New work is refused by then, and liveness is not serving:
    /// what is left to do is to shut down and to start anew.
    pub fn device_lost(&self) -> impl Future<Output = LostDevice> + use<> {
        let mut lost = self.shared.pipeline.workers.lost_device();
        async move {
            let found = lost.wait_for(Option::is_some).await;
            match found.ok().and_then(|found| found.clone()) {
                Some(lost) => lost,
                // The pool is gone, and nothing can be lost any more.
                None => std::future::pending().await,
            }
        }
    }

    /// From one phase to another, unless it has gone further already.
    pub(super) fn advance(&self, from: Phase, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_there = *phase == from;
            if is_there {
                *phase = to;
            }
            is_there
        });
    }

    /// Finds models that are not there before anybody asks for them.
    pub(super) async fn look_over(&self) {
        let registry = self.shared.registry.clone();
        let looking = tokio::task::spawn_blocking(move || registry.look_over());
        // A file system that does not answer must not hold up the others' models; it goes on by itself.
        let looked = timeout(LOOK_LIMIT, looking).await;
        if !matches!(looked, Ok(Ok(()))) {
            tracing::warn!("not all model folders could be checked");
        }
    }

    /// A model that cannot be loaded fails by itself, unless that is to end the start, or a device was lost
    /// meanwhile, which is why.
    pub(super) async fn preload(&self, strict: bool) -> Result<(), StartError> {
        let failed = self.shared.registry.preload().await;
        let Some((id, error)) = failed.first() else {
            return Ok(());
        };
        let lost = self.shared.pipeline.workers.lost_device();
        if let Some(lost) = lost.borrow().clone() {
            return Err(StartError::DeviceLost(lost));
        }
        if !strict {
            return Ok(());
        }
        Err(StartError::Preload {
            id: id.to_string(),
            detail: error.detail(),
        })
    }

    /// Drains: not serving first, then no new work, then the end of what runs, at most for the
    /// configured grace.
    ///
    /// Returns whether everything that was accepted had ended by then.
    pub async fn shut_down(self) -> bool {
        let limits = self.shared.hot().requests;
        tracing::info!("draining");
        self.phase.send_replace(Phase::Draining);
        let grace = limits.shutdown_grace;
        let closing = Closing {
            until: Instant::now() + grace,
        };
        let work_until = closing.until - CLOSING.min(grace / 4);
        let all_done = timeout_at(work_until, self.shared.admission.emptied())
            .await
            .is_ok();
        // Answers are on their way; the connections close when they are written.
        drop(self.close);
        let mut serving = self.serving;
        if timeout(closing.step(), &mut serving).await.is_err() {
            serving.abort();
        }
        // Last, so that probes are answered to the end.
        if let Some(operations) = self.operations {
            operations.close(closing.step()).await;
        }
        if let Some(tracer) = &self.shared.figures.tracer {
            tracer.flush(closing.step()).await;
        }
        for attendant in &self.attendants {
            attendant.abort();
        }
        let shared = Arc::clone(&self.shared);
        let rest = grace.min(closing.step());
        let ending = tokio::task::spawn_blocking(move || {
            shared.registry.stop_baking(rest);
            shared.pipeline.workers.shutdown(rest);
            save_history(&shared);
        });
        if ending.await.is_err() {
            tracing::error!("the worker pool did not shut down cleanly");
        }
        tracing::info!(all_done, "stopped");
        all_done
    }

    /// Marks the server as not serving without refusing work yet, for `server.pre_drain_ms`: load
    /// balancers take it out first.
    pub async fn pre_drain(&self) {
        let pause = self.shared.hot().requests.pre_drain;
        if !pause.is_zero() {
            self.advance(Phase::Serving, Phase::Leaving);
            tokio::time::sleep(pause).await;
        }
    }
}
