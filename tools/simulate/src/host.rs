//! The cores of a machine, shared by all that computes on it at a moment.

/// Tasks that run side by side: each at full speed while there is a core for it, and else all equally slower.
#[derive(Debug)]
pub(crate) struct Host<T> {
    n_cores: f64,
    tasks: Vec<Running<T>>,
    /// Up to when what is left of the tasks is known.
    at_ns: u64,
    /// Nanoseconds of cores that were used.
    used_ns: f64,
}

#[derive(Debug)]
struct Running<T> {
    left_ns: f64,
    task: T,
}

/// What is left of a task that is done, but for what rounding leaves.
const NOTHING_NS: f64 = 0.5;

impl<T> Host<T> {
    pub(crate) fn new(n_cores: u32) -> Self {
        Self {
            n_cores: f64::from(n_cores),
            tasks: Vec::new(),
            at_ns: 0,
            used_ns: 0.0,
        }
    }

    /// Begins a task that takes so much of one core.
    pub(crate) fn begin(&mut self, task: T, takes_ns: u64, now_ns: u64) {
        self.advance(now_ns);
        let left_ns = float(takes_ns);
        self.tasks.push(Running { left_ns, task });
    }

    /// The tasks that are done now, in the order in which they began.
    pub(crate) fn take_done(&mut self, now_ns: u64) -> Vec<T> {
        self.advance(now_ns);
        let done = self
            .tasks
            .extract_if(.., |running| running.left_ns <= NOTHING_NS);
        done.map(|running| running.task).collect()
    }

    /// When the next task is done, if nothing else begins.
    pub(crate) fn next_done_ns(&self) -> Option<u64> {
        let left = self.tasks.iter().map(|running| running.left_ns);
        let left = left.min_by(f64::total_cmp)?;
        // As much is left undone as `take_done` overlooks: rounding must not cost a nanosecond.
        let left = (left - NOTHING_NS).max(0.0);
        Some(self.at_ns + whole((left / self.speed()).ceil()))
    }

    /// Core-nanoseconds that were used so far.
    pub(crate) fn used_ns(&self) -> f64 {
        self.used_ns
    }

    fn speed(&self) -> f64 {
        let n_tasks = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        (self.n_cores / f64::from(n_tasks.max(1))).min(1.0)
    }

    fn advance(&mut self, now_ns: u64) {
        let done = float(now_ns - self.at_ns) * self.speed();
        self.at_ns = now_ns;
        for running in &mut self.tasks {
            self.used_ns += done.min(running.left_ns);
            running.left_ns = (running.left_ns - done).max(0.0);
        }
    }
}

/// A day in nanoseconds has 47 bits, so nothing is lost.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(ns: u64) -> f64 {
    ns as f64
}

/// The same the other way round, of what is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of a day, never negative"
)]
pub(crate) fn whole(ns: f64) -> u64 {
    ns as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_a_core_each_while_there_are_cores_and_share_them_then() {
        let mut host = Host::new(2);
        host.begin('a', 100, 0);
        host.begin('b', 150, 0);
        assert_eq!(host.next_done_ns(), Some(100));
        // Three on two cores from 40 on: 60 are left of a, which take 90.
        host.begin('c', 1000, 40);
        assert_eq!(host.next_done_ns(), Some(130));
        assert_eq!(host.take_done(129), []);
        assert_eq!(host.take_done(130), ['a']);
        // 50 are left of b, and it has a core of its own again.
        assert_eq!(host.next_done_ns(), Some(180));
        assert_eq!(host.take_done(180), ['b']);
        assert!((host.used_ns() - (80.0 + 180.0 + 100.0)).abs() < 2.0);
    }
}
