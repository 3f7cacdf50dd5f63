//! A worker: one thread with its own session, running the chunks that it is handed.

use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use lipsync_engine::{EngineError, Session};

use crate::{
    PoolError,
    ahead::{Ahead, IDLE},
    stats::Ledger,
    task::{Batch, Chunk, Task},
};

/// The state of a worker thread.
#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    /// From the dispatcher. Disconnected: nothing more will come.
    chunks: Receiver<Chunk>,
    /// To the dispatcher: this worker's index for each chunk done with. Has room for all chunks
    /// that can be under way, so sending does not block.
    freed: Sender<usize>,
    ledger: Arc<Ledger>,
    session: Session,
    /// What may be prepared after the last job, until that is done or there is another job.
    ahead: Option<Arc<Ahead>>,
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        chunks: Receiver<Chunk>,
        freed: Sender<usize>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            index,
            chunks,
            freed,
            ledger,
            session: Session::new(),
            ahead: None,
        }
    }

    /// Runs until the dispatcher is gone and its chunks are done.
    pub(crate) fn run(mut self) {
        while let Some(Chunk { task, frames }) = self.next_chunk() {
            let wanted = task.start(Instant::now());
            let result = wanted.then(|| self.infer(&task, frames.clone()));
            // Before the answer, so that who has the answer finds the room. The dispatcher may
            // have ended already.
            let _ = self.freed.send(self.index);
            match result {
                None => {}
                Some(Ok(batch)) => {
                    self.ahead = task.ahead();
                    task.add(frames, batch);
                }
                Some(Err(error)) => task.fail(error),
            }
        }
    }

    /// The next chunk, or `None` when no more can come. While there is none, frames are prepared.
    fn next_chunk(&mut self) -> Option<Chunk> {
        let Some(ahead) = self.ahead.take() else {
            return self.chunks.recv().ok();
        };
        match self.chunks.recv_timeout(IDLE) {
            Ok(chunk) => return Some(chunk),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        loop {
            match self.chunks.try_recv() {
                Ok(chunk) => return Some(chunk),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let stop = || !self.chunks.is_empty();
            match ahead.prepare_one(&mut self.session, &stop) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(worker = self.index, %error, "no frames are prepared");
                    self.session = Session::new();
                    break;
                }
            }
        }
        // An idle worker holds no network.
        drop(ahead);
        self.chunks.recv().ok()
    }

    fn infer(&mut self, task: &Task, frames: Range<usize>) -> Result<Batch, PoolError> {
        let _entered = task.span().enter();
        let n_frames = frames.len();
        let mut faces = Vec::with_capacity(n_frames);
        let session = &mut self.session;
        let start = Instant::now();
        // Unwind safe: after a panic neither the session nor the faces are looked at again.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let inputs = task.inputs(frames);
            task.generator().infer(session, &inputs, &mut faces)
        }));
        let end = Instant::now();
        let result = match outcome {
            Ok(Ok(())) if faces.len() == n_frames => Ok(()),
            Ok(Ok(())) => Err(PoolError::Engine(EngineError::Input {
                what: "faces from the generator",
                expected: n_frames,
                actual: faces.len(),
            })),
            Ok(Err(error)) => Err(PoolError::Engine(error)),
            Err(panic) => {
                tracing::error!(
                    worker = self.index,
                    panic = panic_message(&*panic),
                    "the generator panicked, the worker is rebuilt"
                );
                self.session = Session::new();
                Err(PoolError::Panicked)
            }
        };
        self.ledger.update_worker(self.index, |stats| {
            stats.batches += 1;
            stats.busy += end - start;
            match &result {
                Ok(()) => stats.frames += u64::try_from(n_frames).unwrap_or(u64::MAX),
                Err(PoolError::Panicked) => stats.restarts += 1,
                Err(_) => {}
            }
        });
        result.map(|()| Batch {
            faces,
            worker: self.index,
            start,
            end,
        })
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
