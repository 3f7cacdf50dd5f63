//! Where work goes that takes too long for an async thread: mel, decoding, compositing, encoding.

use std::{num::NonZeroUsize, sync::Arc, thread};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lipsync_core::TenantId;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    error::ServeError,
    turns::{Turn, Turns},
};

/// Runs closures on tokio's blocking threads, no more at once than there are cores.
///
/// What waits here is bounded by admission: only admitted requests and sessions submit work.
///
/// Several tenants or addresses take turns at the slots, however many closures each of them has waiting, and whether
/// they are of sessions or of calls. Of one of them, work of a live session goes before batch work: of that no more waits
/// for a slot than there are slots, and what waits there is served as it came. So a session whose work comes to a pool
/// full of batch work of its own tenant waits for the end of one closure, and for one more of each other that waits; and
/// batch work keeps a part of a pool that is full of sessions.
#[derive(Debug, Clone)]
pub struct CpuPool {
    slots: Arc<Turns>,
    /// What batch work needs before it may wait for a slot; as many as there are slots.
    batch_turns: Arc<Turns>,
    /// Who holds batch work back, one at a time.
    holder: Arc<Mutex<()>>,
    n_slots: usize,
    is_live: bool,
    /// Whose work it is.
    whose: TenantId,
}

/// Batch work is held back until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Held {
    _turns: Vec<Turn>,
    _holder: OwnedMutexGuard<()>,
}

impl CpuPool {
    /// A pool with one slot a core, for batch work.
    #[must_use]
    pub fn new() -> Self {
        Self::with_slots(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    fn with_slots(n_slots: usize) -> Self {
        Self {
            slots: Turns::new(n_slots),
            batch_turns: Turns::new(n_slots),
            holder: Arc::default(),
            n_slots,
            is_live: false,
            whose: TenantId::default(),
        }
    }

    /// How many closures run at once, at least 1.
    pub(crate) fn n_slots(&self) -> usize {
        self.n_slots
    }

    /// The same slots, for work whose result has its time.
    pub(crate) fn live(&self) -> Self {
        Self {
            is_live: true,
            ..self.clone()
        }
    }

    /// The same slots, for work of somebody who takes turns with others.
    pub(crate) fn of(&self, whose: TenantId) -> Self {
        Self {
            whose,
            ..self.clone()
        }
    }

    /// Holds batch work back, once what runs of it has ended, until the result is dropped.
    ///
    /// # Errors
    /// [`ServeError::Internal`]: never.
    pub async fn hold_batch(&self) -> Result<Held, ServeError> {
        let holder = Arc::clone(&self.holder).lock_owned().await;
        let mut turns = Vec::with_capacity(self.n_slots);
        for _ in 0..self.n_slots {
            turns.push(self.turn(&self.batch_turns).await?);
        }
        Ok(Held {
            _turns: turns,
            _holder: holder,
        })
    }

    async fn turn(&self, of: &Arc<Turns>) -> Result<Turn, ServeError> {
        let turn = of.take(&self.whose).await;
        turn.ok_or_else(|| ServeError::internal("nobody passes the turns on"))
    }

    /// Runs `work` and waits for its result. Work whose caller has gone is not started.
    ///
    /// # Errors
    /// What `work` returns; [`ServeError::Internal`] if it panics.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, ServeError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, ServeError> + Send + 'static,
    {
        let turn = if self.is_live {
            None
        } else {
            Some(self.turn(&self.batch_turns).await?)
        };
        let slot = self.turn(&self.slots).await?;
        let task = tokio::task::spawn_blocking(move || {
            // Given back in this order: a session that waits is before the next batch work.
            let _held = (slot, turn);
            work()
        });
        task.await.map_err(ServeError::internal)?
    }

    /// Runs `work` on all items, `n_together` in one closure, and gives the results in order.
    ///
    /// At most one closure for each slot runs or waits at a time, so a caller with many items does not keep
    /// out a caller with one.
    ///
    /// # Errors
    /// The first of those of [`Self::run`]; what has not begun then is not run.
    pub(crate) async fn run_each<T, R, F>(
        &self,
        items: impl Iterator<Item = T>,
        n_together: usize,
        work: F,
    ) -> Result<Vec<R>, ServeError>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(&T) -> Result<R, ServeError> + Clone + Send + 'static,
    {
        let mut items = items;
        let tasks = std::iter::from_fn(|| {
            let some: Vec<T> = items.by_ref().take(n_together.max(1)).collect();
            let work = work.clone();
            (!some.is_empty())
                .then(|| self.run(move || some.iter().map(work).collect::<Result<Vec<_>, _>>()))
        });
        let done: Vec<_> = stream::iter(tasks)
            .buffered(self.n_slots)
            .try_collect()
            .await?;
        Ok(done.into_iter().flatten().collect())
    }
}

impl Default for CpuPool {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
