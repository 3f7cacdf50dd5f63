//! The jobs that wait in the dispatcher's hand, and the batches that are made of them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    order::policy::{Chunks, hold_until},
    task::{Batch, Chunk, Task},
};

/// Jobs with frames to hand out: oldest first, but for those that have had a turn and wait for their next. The open ones have a place in the queue each, which
/// bounds them; ended ones are removed whenever something happens.
#[derive(Debug, Default)]
pub(crate) struct WaitingJobs(Vec<WaitingJob>);

#[derive(Debug)]
struct WaitingJob {
    task: Arc<Task>,
    chunks: Chunks,
    /// Which of the dispatcher's groups of workers runs it.
    group: usize,
    /// Whether its network is slow; see [`crate::order::policy::is_slow`].
    is_slow: bool,
}

impl WaitingJobs {
    pub(crate) fn push(&mut self, task: Arc<Task>, chunks: Chunks, group: usize, is_slow: bool) {
        self.0.push(WaitingJob {
            task,
            chunks,
            group,
            is_slow,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The group of workers for the job at `place`.
    pub(crate) fn group(&self, place: usize) -> usize {
        self.0[place].group
    }

    /// Whether the network of the job at `place` is slow.
    pub(crate) fn is_slow(&self, place: usize) -> bool {
        self.0[place].is_slow
    }

    pub(crate) fn task(&self, place: usize) -> &Arc<Task> {
        &self.0[place].task
    }

    /// The earliest deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|job| job.task.deadline()).min()
    }

    /// Forgets jobs that have ended; those whose deadline has passed are ended.
    pub(crate) fn forget_ended(&mut self, now: Instant) {
        self.0.retain(|job| job.task.wants_compute(now));
    }

    pub(crate) fn into_tasks(self) -> impl Iterator<Item = Arc<Task>> {
        self.0.into_iter().map(|job| job.task)
    }

    /// Frames that wait for the network of the job at `place`, which is the oldest of its model.
    pub(crate) fn n_frames_like(&self, place: usize) -> usize {
        let first = &self.0[place].task;
        let like = self.0[place..]
            .iter()
            .filter(|job| job.task.has_same_generator(first));
        like.map(|job| job.chunks.n_rest()).sum()
    }

    /// Until when the batch that begins with the job at `place` is held back; see [`hold_until`].
    pub(crate) fn hold_until(
        &self,
        place: usize,
        max_batch_frames: usize,
        max_wait: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let first = &self.0[place].task;
        let n_waiting = self.n_frames_like(place);
        let wait_end = first.submitted_at() + max_wait;
        let like = self.0[place..]
            .iter()
            .filter(|job| job.task.has_same_generator(first));
        let deadline = like.filter_map(|job| job.task.deadline()).min();
        hold_until(n_waiting, max_batch_frames, wait_end, deadline, now)
    }

    /// The next chunk of the job at `place`, alone. A job that has had its turn goes behind the others.
    pub(crate) fn take_alone(&mut self, place: usize) -> Batch {
        let chunk = self.take_chunk(place, usize::MAX);
        if self.0[place].chunks.ends_turn() {
            let job = self.0.remove(place);
            self.0.push(job);
        }
        self.forget_taken();
        Batch {
            chunks: vec![chunk],
        }
    }

    /// Up to `n_frames` of the job at `place`, and whole jobs of the same model behind it as long as
    /// they fit; and whether something was left behind.
    ///
    /// The first job that does not fit closes the batch, so that nobody is overtaken by a smaller one.
    pub(crate) fn take_shared(&mut self, place: usize, n_frames: usize) -> (Batch, bool) {
        let first = Arc::clone(&self.0[place].task);
        let mut chunks = vec![self.take_chunk(place, n_frames)];
        let mut n_left = n_frames - chunks[0].frames.len();
        let mut is_full = n_left == 0 || self.0[place].chunks.n_rest() > 0;
        for next in place + 1..self.0.len() {
            if !self.0[next].task.has_same_generator(&first) {
                continue;
            }
            is_full |= self.0[next].chunks.n_rest() > n_left;
            if is_full {
                break;
            }
            let chunk = self.take_chunk(next, n_left);
            n_left -= chunk.frames.len();
            chunks.push(chunk);
            is_full = n_left == 0;
        }
        self.forget_taken();
        (Batch { chunks }, is_full)
    }

    fn take_chunk(&mut self, place: usize, max_frames: usize) -> Chunk {
        let WaitingJob { task, chunks, .. } = &mut self.0[place];
        let frames = chunks.take(max_frames);
        if chunks.n_rest() == 0 {
            // Before the last chunk goes, so that who sees it run finds the place free.
            task.leave_queue();
        }
        Chunk {
            task: Arc::clone(task),
            frames,
        }
    }

    fn forget_taken(&mut self) {
        self.0.retain(|job| job.chunks.n_rest() > 0);
    }
}
