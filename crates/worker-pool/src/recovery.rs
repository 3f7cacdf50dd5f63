//! What becomes of frames that fail: they are run again after a pause, or their job fails, or answers without them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::saturate::u64_of;
use lipsync_engine::{EngineError, Generator};

use crate::{
    PoolError,
    breaker::{Batched, BreakerRules, BreakerState, Change},
    dispatcher::Notice,
    execute::{Executor, Outcome},
    stats::Ledger,
    task::Chunk,
};

/// What is tried before something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// How often frames are run before they have failed, at least 1. Where it is 1, frames of a batch that failed
    /// are not run one by one either.
    pub max_tries: u32,
    /// The pause before frames are run for the second time. It doubles with each try, and none is made whose pause
    /// would last beyond the job's deadline.
    pub backoff: Duration,
    /// When networks that keep failing are refused for a while; `None`: never.
    pub breaker: Option<BreakerRules>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            max_tries: 4,
            backoff: Duration::from_millis(50),
            breaker: Some(BreakerRules::default()),
        }
    }
}

impl Recovery {
    /// Nothing: what fails once has failed.
    #[must_use]
    pub fn none() -> Self {
        Self {
            max_tries: 1,
            backoff: Duration::ZERO,
            breaker: None,
        }
    }

    /// When frames are run again that failed for the `n`th time.
    pub(crate) fn again_at(&self, n_tries: u32, now: Instant) -> Option<Instant> {
        if n_tries >= self.max_tries {
            return None;
        }
        let doubled = 2_u32.saturating_pow(n_tries.saturating_sub(1));
        now.checked_add(self.backoff.saturating_mul(doubled))
    }
}

/// What was done about failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryStats {
    /// Batches that failed, other than for want of memory.
    pub failed_batches: u64,
    /// Those of them that were broken up: run job by job or frame by frame.
    pub split_batches: u64,
    /// Parts of jobs that were run again after a pause.
    pub retries: u64,
    /// Jobs that completed although a part of them had failed.
    pub recovered: u64,
    /// Frames that were left out of answers that may be partial.
    pub failed_frames: u64,
    /// Times that a network was refused for a while because it kept failing.
    pub breaker_opened: u64,
    /// Times that such a network was fully back.
    pub breaker_closed: u64,
    /// Jobs that were refused for that; they are among the rejected ones.
    pub breaker_refused: u64,
    /// Times that frames of a network began to be run one by one, because its batches failed.
    pub single_begun: u64,
    /// Times that batches of such a network worked again.
    pub single_ended: u64,
}

impl RecoveryStats {
    pub(crate) fn note(&mut self, change: Change) {
        *match change {
            Change::Opened => &mut self.breaker_opened,
            Change::Closed => &mut self.breaker_closed,
            Change::Single => &mut self.single_begun,
            Change::Batches => &mut self.single_ended,
        } += 1;
    }
}

/// Whether the same run may succeed later: the engine or its device failed, and nobody's input is to blame.
pub(crate) fn may_pass(error: &PoolError) -> bool {
    matches!(
        error,
        PoolError::Engine(
            EngineError::Device { .. } | EngineError::DeviceFault { sticky: false, .. }
        )
    )
}

/// Whether an error says that a network does not work.
pub(crate) fn is_networks_fault(error: &PoolError) -> bool {
    matches!(error, PoolError::Engine(_) | PoolError::Panicked)
}

/// Whether a job that may answer in part can do without the frames that met this error.
fn spares_the_rest(error: &PoolError) -> bool {
    is_networks_fault(error) || matches!(error, PoolError::OutOfMemory { .. })
}

impl Executor {
    /// Breaks a batch up that failed: each job is run alone, then each frame of one.
    pub(crate) fn break_up(
        &mut self,
        chunks: Vec<Chunk>,
        error: PoolError,
        outcomes: &mut Vec<Outcome>,
    ) {
        if !matches!(error, PoolError::OutOfMemory { .. }) {
            self.ledger.recovery(|stats| stats.failed_batches += 1);
        }
        let is_one_frame = chunks.iter().map(|chunk| chunk.frames.len()).sum::<usize>() <= 1;
        let (is_alone, generator) = match &chunks[..] {
            [] => return,
            [only] => (true, Arc::clone(only.task.generator())),
            [first, ..] => (false, Arc::clone(first.task.generator())),
        };
        if is_one_frame || (is_alone && !self.runs_frame_by_frame(&chunks[0], &error)) {
            let mut left = chunks.into_iter();
            outcomes.extend(left.next().map(|only| (only, Err(error))));
            return;
        }
        self.ledger.recovery(|stats| stats.split_batches += 1);
        tracing::warn!(worker = self.worker, %error, is_alone, "a batch failed and is broken up");
        let before = outcomes.len();
        if is_alone {
            self.run_frames(chunks, outcomes);
        } else {
            for chunk in chunks {
                self.run_piece(vec![chunk], outcomes);
            }
        }
        let all_worked = outcomes[before..].iter().all(|(_, result)| result.is_ok());
        if all_worked && may_pass(&error) && self.recovery.max_tries > 1 {
            self.note_batch(&generator, Batched::OnlySingly);
        }
    }

    fn runs_frame_by_frame(&self, chunk: &Chunk, error: &PoolError) -> bool {
        self.recovery.max_tries > 1
            && (may_pass(error) || (chunk.task.may_be_partial() && spares_the_rest(error)))
    }

    /// Runs the frames of a job one by one. Those behind one that fails are left for the next try, if there is one.
    fn run_frames(&mut self, chunks: Vec<Chunk>, outcomes: &mut Vec<Outcome>) {
        for Chunk {
            task,
            frames,
            n_tries,
        } in chunks
        {
            let is_last_try = n_tries + 1 >= self.recovery.max_tries;
            for n in frames.clone() {
                let frame = Chunk {
                    task: Arc::clone(&task),
                    frames: n..n + 1,
                    n_tries,
                };
                self.run_piece(vec![frame], outcomes);
                let Some((failed, Err(error))) = outcomes.last_mut() else {
                    continue;
                };
                if failed.frames.start == n && !is_last_try && may_pass(error) {
                    failed.frames.end = frames.end;
                    break;
                }
            }
        }
    }

    pub(crate) fn note_batch(&self, generator: &Arc<dyn Generator>, batched: Batched) {
        let change = self
            .ledger
            .healths
            .note_batch(generator, batched, Instant::now());
        if let Some(change) = change {
            self.ledger.recovery(|stats| stats.note(change));
        }
    }

    /// What becomes of frames that failed; where they are run again, what the dispatcher is told.
    pub(crate) fn give_up(&self, chunk: Chunk, error: PoolError) -> Option<Notice> {
        let now = Instant::now();
        let n_tries = chunk.n_tries + 1;
        let again = self.recovery.again_at(n_tries, now).filter(|&at| {
            let health = self.ledger.healths.of(chunk.task.generator());
            may_pass(&error)
                && health.breaker != BreakerState::Open
                && chunk.task.deadline().is_none_or(|deadline| at < deadline)
        });
        if let Some(at) = again {
            chunk.task.note_failure();
            let chunk = Chunk { n_tries, ..chunk };
            return Some(Notice::Again { chunk, at, error });
        }
        lose(&self.ledger, chunk, error);
        None
    }
}

/// Ends what frames were a part of: the job, or themselves alone where the rest is of use.
pub(crate) fn lose(ledger: &Ledger, chunk: Chunk, error: PoolError) {
    if chunk.task.may_be_partial() && spares_the_rest(&error) {
        let n_frames = u64_of(chunk.frames.len());
        ledger.recovery(|stats| stats.failed_frames += n_frames);
        chunk.task.miss(chunk.frames, error);
    } else {
        chunk.task.fail(error);
    }
}
