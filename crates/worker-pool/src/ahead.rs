//! What idle workers do: prepare the frames that may be asked for next.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use lipsync_engine::{Generator, Workspace};

use crate::{Job, PoolError, job::FramesAhead};

/// How long a worker must have been idle before it prepares anything: while the faces of its last job
/// are pasted and encoded, the cores have better things to do.
pub(crate) const IDLE: Duration = Duration::from_millis(20);
/// Most frames that are prepared after one job.
pub(crate) const MAX_FRAMES: u32 = 64;

/// The frames after one job, shared by the workers that ran it: each takes the next one.
pub(crate) struct Ahead {
    /// Weak: what nobody may ask for any more is not prepared, and keeps no memory.
    generator: Weak<dyn Generator>,
    frames: Arc<dyn FramesAhead>,
    next: AtomicU32,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Ahead {
    /// What may follow a job, if it says so.
    pub(crate) fn after(job: &Job) -> Option<Self> {
        Some(Self {
            generator: Arc::downgrade(&job.generator),
            frames: Arc::clone(job.ahead.as_ref()?),
            next: AtomicU32::new(0),
        })
    }

    /// Prepares one frame, unless `stop`; `false` when there are no more, or the network is gone.
    ///
    /// # Errors
    /// [`PoolError::Engine`], and [`PoolError::Panicked`], after which `workspace` must be replaced.
    pub(crate) fn prepare_one(
        &self,
        workspace: &mut Workspace,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, PoolError> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        // Unwind safe: after a panic the workspace is not looked at again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if n >= MAX_FRAMES {
                return None;
            }
            let generator = self.generator.upgrade()?;
            let index = self.frames.background_index(n)?;
            let crop = || self.frames.crop(index);
            Some(generator.prepare(workspace, index, &crop, stop))
        }));
        match outcome {
            Ok(None) => Ok(false),
            Ok(Some(Ok(()))) => Ok(true),
            Ok(Some(Err(error))) => Err(PoolError::Engine(error)),
            Err(_) => Err(PoolError::Panicked),
        }
    }
}
