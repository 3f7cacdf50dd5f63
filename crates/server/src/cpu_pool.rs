//! Where work goes that takes too long for an async thread: mel, decoding, compositing, encoding.

use std::{num::NonZeroUsize, sync::Arc, thread};

use tokio::sync::Semaphore;

use crate::error::ServeError;

/// Runs closures on tokio's blocking threads, no more at once than there are cores.
///
/// What waits here is bounded by admission: only admitted requests and sessions submit work.
#[derive(Debug, Clone)]
pub struct CpuPool {
    slots: Arc<Semaphore>,
    n_slots: usize,
}

impl CpuPool {
    /// A pool with one slot a core.
    #[must_use]
    pub fn new() -> Self {
        let n_cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            slots: Arc::new(Semaphore::new(n_cores)),
            n_slots: n_cores,
        }
    }

    /// How many closures run at once, at least 1.
    #[must_use]
    pub fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// Runs `work` and waits for its result. Work whose caller has gone is not started.
    ///
    /// # Errors
    /// What `work` returns; [`ServeError::Internal`] if it panics.
    pub async fn run<T, F>(&self, work: F) -> Result<T, ServeError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ServeError> + Send + 'static,
    {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(ServeError::internal)?;
        let task = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work()
        });
        task.await.map_err(ServeError::internal)?
    }
}

impl Default for CpuPool {
    fn default() -> Self {
        Self::new()
    }
}
