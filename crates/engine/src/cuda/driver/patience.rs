//! How long a worker waits for its stream: a short spin, then naps that grow, and never for ever.
//!
//! The driver's own blocking wait has no limit. A kernel that hangs would keep its worker for ever, and the health
//! service would go on saying that all is well. So the stream is asked instead.

use std::time::{Duration, Instant};

/// The first nap. Linux wakes a thread some 50 us late, so a shorter one would not be.
const FIRST_NAP: Duration = Duration::from_micros(50);
/// The longest nap: what it adds to a wait that long already.
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// How a wait goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How long the stream is asked again and again, without a nap.
    pub spin: Duration,
    /// When the wait is given up.
    pub limit: Duration,
}

/// Time, so that a test need not spend any.
pub(crate) trait Clock {
    /// Since some moment.
    fn now(&self) -> Duration;
    /// Lets others have the core for so long.
    fn nap(&self, time: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub(crate) struct RealClock(Instant);

impl RealClock {
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn nap(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl Patience {
    /// Waits until `is_done` says so. `Ok(false)`: it did not within the limit.
    pub fn wait<E>(
        self,
        clock: &impl Clock,
        mut is_done: impl FnMut() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let begun = clock.now();
        let mut nap = FIRST_NAP;
        while !is_done()? {
            let waited = clock.now().saturating_sub(begun);
            if waited >= self.limit {
                return Ok(false);
            }
            if waited < self.spin {
                std::hint::spin_loop();
                continue;
            }
            clock.nap(nap);
            // A sixteenth of what the wait took so far: a nap that is too long costs no more than that.
            nap = (waited / 16).clamp(FIRST_NAP, LONGEST_NAP);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Each look at it takes a microsecond.
    #[derive(Default)]
    struct Virtual {
        now: Cell<Duration>,
        naps: RefCell<Vec<Duration>>,
    }

    impl Clock for Virtual {
        fn now(&self) -> Duration {
            self.now.set(self.now.get() + Duration::from_micros(1));
            self.now.get()
        }

        fn nap(&self, time: Duration) {
            self.now.set(self.now.get() + time);
            self.naps.borrow_mut().push(time);
        }
    }

    const PATIENCE: Patience = Patience {
        spin: Duration::from_micros(100),
        limit: Duration::from_secs(10),
    };

    /// Waits for something that takes so many microseconds; when the wait ended, and its naps.
    fn wait_for(us: u64) -> (Result<bool, ()>, Duration, Vec<Duration>) {
        let clock = Virtual::default();
        let done = PATIENCE.wait(&clock, || Ok(clock.now.get() >= Duration::from_micros(us)));
        (done, clock.now.get(), clock.naps.into_inner())
    }

    #[test]
    fn a_short_wait_spins_and_a_long_one_naps() {
        let (done, _, naps) = wait_for(60);
        assert_eq!((done, naps.len()), (Ok(true), 0));
        let (done, _, naps) = wait_for(2_000);
        assert_eq!(done, Ok(true));
        let longest = Duration::from_micros(125);
        assert!(
            naps.len() > 5 && naps.iter().all(|&nap| nap <= longest),
            "{naps:?}"
        );
    }

    #[test]
    fn naps_cost_a_sixteenth_of_the_wait_at_most() {
        for us in [500, 3_000, 20_000, 400_000] {
            let (done, ended, _) = wait_for(us);
            assert_eq!(done, Ok(true));
            let late = ended - Duration::from_micros(us);
            let most = Duration::from_micros(us / 16).max(FIRST_NAP) + Duration::from_micros(5);
            assert!(late <= most, "{us} us: {late:?} late");
        }
    }

    #[test]
    fn nothing_is_waited_for_for_ever() {
        let (done, ended, _) = wait_for(u64::MAX);
        assert_eq!(done, Ok(false));
        assert!(ended < PATIENCE.limit + Duration::from_millis(10));
    }

    #[test]
    fn a_failure_ends_the_wait() {
        let failed: Result<bool, &str> = PATIENCE.wait(&Virtual::default(), || Err("lost"));
        assert_eq!(failed, Err("lost"));
    }
}
