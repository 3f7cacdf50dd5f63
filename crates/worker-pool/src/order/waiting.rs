//! The jobs that wait, and the batches that are made of them.

use std::time::{Duration, Instant};

use super::{
    Entry, JobId, NetworkId, Part,
    policy::{Chunks, hold_until},
};

/// Jobs with frames to assign: oldest first, except for those that have had a turn and wait for their next.
///
/// Each has a place in the queue, which bounds them.
#[derive(Debug, Default)]
pub(super) struct WaitingJobs(Vec<WaitingJob>);

#[derive(Debug)]
struct WaitingJob {
    job: Entry,
    chunks: Chunks,
    /// The place of its device's lane.
    lane: usize,
    /// Whether its network is slow; see [`super::policy::is_slow`].
    is_slow: bool,
}

impl WaitingJobs {
    pub(super) fn push(&mut self, job: Entry, chunks: Chunks, lane: usize, is_slow: bool) {
        self.0.push(WaitingJob {
            job,
            chunks,
            lane,
            is_slow,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The lane for the job at `place`.
    pub(super) fn lane(&self, place: usize) -> usize {
        self.0[place].lane
    }

    /// Whether the network of the job at `place` is slow.
    pub(super) fn is_slow(&self, place: usize) -> bool {
        self.0[place].is_slow
    }

    /// The network of the job at `place`.
    pub(super) fn network(&self, place: usize) -> NetworkId {
        self.0[place].job.network
    }

    /// Forgets a job.
    pub(super) fn forget(&mut self, job: JobId) {
        self.0.retain(|waiting| waiting.job.id != job);
    }

    /// The job at `place`, which is the oldest of its network, and the others of it.
    fn like(&self, place: usize) -> impl Iterator<Item = &WaitingJob> {
        let network = self.network(place);
        let rest = self.0[place..].iter();
        rest.filter(move |waiting| waiting.job.network == network)
    }

    /// Frames that wait for the network of the job at `place`, which is the oldest of it.
    pub(super) fn n_frames_like(&self, place: usize) -> usize {
        self.like(place)
            .map(|waiting| waiting.chunks.n_rest())
            .sum()
    }

    /// Until when the batch that begins with the job at `place` is held back; see [`hold_until`].
    pub(super) fn hold_until(
        &self,
        place: usize,
        max_batch_frames: usize,
        max_wait: Duration,
        now: Instant,
    ) -> Option<Instant> {
        let n_waiting = self.n_frames_like(place);
        let wait_end = self.0[place].job.submitted_at + max_wait;
        let deadlines = self
            .like(place)
            .filter_map(|waiting| waiting.job.claim.deadline);
        hold_until(n_waiting, max_batch_frames, wait_end, deadlines.min(), now)
    }

    /// The next chunk of the job at `place`, alone. A job that has had its turn goes behind the others.
    pub(super) fn take_alone(&mut self, place: usize) -> Part {
        let part = self.take_part(place, usize::MAX);
        if self.0[place].chunks.ends_turn() {
            let job = self.0.remove(place);
            self.0.push(job);
        }
        self.forget_taken();
        part
    }

    /// Up to `n_frames` of the job at `place`, and whole jobs of the same network behind it as long as
    /// they fit; and whether something was left behind.
    ///
    /// The first job that does not fit closes the batch, so that nobody is overtaken by a smaller one.
    pub(super) fn take_shared(&mut self, place: usize, n_frames: usize) -> (Vec<Part>, bool) {
        let network = self.network(place);
        let mut parts = vec![self.take_part(place, n_frames)];
        let mut n_left = n_frames - parts[0].frames.len();
        let mut is_full = n_left == 0 || self.0[place].chunks.n_rest() > 0;
        for next in place + 1..self.0.len() {
            if self.network(next) != network {
                continue;
            }
            is_full |= self.0[next].chunks.n_rest() > n_left;
            if is_full {
                break;
            }
            let part = self.take_part(next, n_left);
            n_left -= part.frames.len();
            parts.push(part);
            is_full = n_left == 0;
        }
        self.forget_taken();
        (parts, is_full)
    }

    fn take_part(&mut self, place: usize, max_frames: usize) -> Part {
        let WaitingJob { job, chunks, .. } = &mut self.0[place];
        Part {
            job: job.id,
            frames: chunks.take(max_frames),
        }
    }

    fn forget_taken(&mut self) {
        self.0.retain(|waiting| waiting.chunks.n_rest() > 0);
    }
}
