//! What is known of the health of networks: a circuit breaker for each, and whether its batches work.
//!
//! A network is loaded for one device, so each (model, device) has its own. One that is loaded anew begins anew.
//!
//! ```text
//! Closed ──failures in a row──▶ Open ──the pause is over──▶ HalfOpen ──enough successes──▶ Closed
//!                                      ▲                            │
//!                                      └───────── a failure ────────┘   (with a pause twice as long)
//! ```

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use lipsync_core::sync::lock;
use lipsync_engine::{Device, Generator};
use tokio::sync::watch;

use crate::cost::is_same;

/// When a network is refused, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// Jobs that fail in a row before it is, at least 1. One success in between and it begins to count anew, so a
    /// client whose jobs alone fail closes nothing to others.
    pub trip_after: u32,
    /// How long it is refused for the first time. The pause doubles each time.
    pub first_pause: Duration,
    /// And at most.
    pub longest_pause: Duration,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            trip_after: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// Jobs of a network at once with which it is fully back. It begins with one, and each success doubles it.
const FULLY_BACK: u32 = 16;
/// Batches in a row that fail and whose frames succeed one by one, before batches are given up.
const GIVE_UP: u32 = 3;
/// How long frames are run one by one before a batch is tried again.
const SINGLE: Duration = Duration::from_secs(30);

/// Whether a network's jobs are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BreakerState {
    /// All of them.
    #[default]
    Closed,
    /// None: it kept failing.
    Open,
    /// A few at a time, to see whether it works again.
    HalfOpen,
}

/// How a network fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkHealth {
    /// Whether its jobs are accepted.
    pub breaker: BreakerState,
    /// Its frames are run one by one, because its batches fail.
    pub single_frames: bool,
}

/// One network's breaker. It reads no clock.
#[derive(Debug, Default)]
struct Breaker {
    rules: BreakerRules,
    state: BreakerState,
    /// Failures in a row.
    n_failures: u32,
    /// When jobs are accepted again, while it is open.
    until: Option<Instant>,
    /// The pause after the next failure.
    pause: Option<Duration>,
    /// Jobs that may be there at once, and are, while it is half open.
    n_allowed: u32,
    n_there: u32,
}

impl Breaker {
    /// Lets a job in, or says how long to wait.
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(until) = self.until {
            if now < until {
                return Err(until - now);
            }
            self.until = None;
            self.state = BreakerState::HalfOpen;
            (self.n_allowed, self.n_there) = (1, 0);
        }
        if self.state == BreakerState::HalfOpen {
            if self.n_there >= self.n_allowed {
                return Err(self.rules.first_pause);
            }
            self.n_there += 1;
        }
        Ok(())
    }

    /// A job has ended; `is_success`: `None` where that says nothing of the network.
    fn note(&mut self, is_success: Option<bool>, now: Instant) -> bool {
        if self.state == BreakerState::HalfOpen {
            self.n_there = self.n_there.saturating_sub(1);
        }
        match is_success {
            None => false,
            Some(true) => {
                self.n_failures = 0;
                if self.state == BreakerState::HalfOpen {
                    self.n_allowed = self.n_allowed.saturating_mul(2);
                    if self.n_allowed >= FULLY_BACK {
                        let rules = self.rules;
                        *self = Self {
                            rules,
                            ..Self::default()
                        };
                    }
                }
                false
            }
            Some(false) => {
                self.n_failures = self.n_failures.saturating_add(1);
                let trips = match self.state {
                    BreakerState::Closed => self.n_failures >= self.rules.trip_after,
                    BreakerState::HalfOpen => true,
                    // One that was accepted before.
                    BreakerState::Open => false,
                };
                if trips {
                    let pause = self.pause.unwrap_or(self.rules.first_pause);
                    self.pause = Some((pause * 2).min(self.rules.longest_pause));
                    self.state = BreakerState::Open;
                    self.until = now.checked_add(pause);
                }
                trips
            }
        }
    }
}

/// Whether a network's batches work.
#[derive(Debug, Default)]
struct Batching {
    /// Batches in a row that failed though their frames succeeded.
    n_failed: u32,
    /// Until when frames are run one by one.
    single_until: Option<Instant>,
}

/// What happened to the batches of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batched {
    /// One worked.
    Worked,
    /// One failed, and its frames worked one by one.
    OnlySingly,
}

/// A change that is worth a line in the log, and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Opened,
    Closed,
    /// Frames are run one by one from now on.
    Single,
    /// Batches work again.
    Batches,
}

/// The health of all networks that are in memory.
pub(crate) struct Healths {
    networks: Mutex<Vec<Health>>,
    rules: BreakerRules,
    /// Counts changes of breakers.
    changes: watch::Sender<u64>,
}

struct Health {
    /// Weak, so that what is known goes with the network.
    generator: Weak<dyn Generator>,
    device: Device,
    breaker: Breaker,
    batching: Batching,
}

impl Healths {
    /// Nothing known yet.
    pub(crate) fn new(rules: BreakerRules) -> Self {
        Self {
            networks: Mutex::default(),
            rules,
            changes: watch::Sender::new(0),
        }
    }
}

impl Healths {
    /// Lets a job of a network in, or says how long to wait. Every job that is let in is told of by
    /// [`note`](Self::note).
    pub(crate) fn admit(
        &self,
        generator: &Arc<dyn Generator>,
        now: Instant,
    ) -> Result<(), Duration> {
        let (result, changed) = self.with(generator, |health| {
            let before = health.breaker.state;
            let result = health.breaker.admit(now);
            (result, before != health.breaker.state)
        });
        if changed {
            self.tell();
        }
        result
    }

    /// A job has ended; `is_success`: `None` where that says nothing of its network.
    pub(crate) fn note(
        &self,
        generator: &Arc<dyn Generator>,
        is_success: Option<bool>,
        now: Instant,
    ) -> Option<Change> {
        let change = self.with(generator, |health| {
            let before = health.breaker.state;
            let trips = health.breaker.note(is_success, now);
            let device = health.device;
            match (before, health.breaker.state) {
                _ if trips => {
                    let pause = health.breaker.until.map(|until| until - now);
                    tracing::error!(%device, ?pause, "a network keeps failing: its jobs are refused");
                    Some(Change::Opened)
                }
                (BreakerState::HalfOpen, BreakerState::Closed) => {
                    tracing::info!(%device, "a network works again");
                    Some(Change::Closed)
                }
                _ => None,
            }
        });
        if change.is_some() {
            self.tell();
        }
        change
    }

    /// Whether frames of a network are to be run one by one now.
    pub(crate) fn runs_singly(&self, generator: &Arc<dyn Generator>, now: Instant) -> bool {
        self.with(generator, |health| {
            health
                .batching
                .single_until
                .is_some_and(|until| now < until)
        })
    }

    /// A batch of several frames was run.
    pub(crate) fn note_batch(
        &self,
        generator: &Arc<dyn Generator>,
        batched: Batched,
        now: Instant,
    ) -> Option<Change> {
        self.with(generator, |health| {
            let batching = &mut health.batching;
            let was_single = batching.single_until.is_some();
            let device = health.device;
            match batched {
                Batched::Worked => {
                    *batching = Batching::default();
                    was_single.then(|| {
                        tracing::info!(%device, "batches of a network work again");
                        Change::Batches
                    })
                }
                Batched::OnlySingly => {
                    batching.n_failed = batching.n_failed.saturating_add(1);
                    let gives_up = was_single || batching.n_failed >= GIVE_UP;
                    if gives_up {
                        batching.single_until = now.checked_add(SINGLE);
                    }
                    (gives_up && !was_single).then(|| {
                        tracing::error!(%device, "batches of a network fail: its frames are run one by one");
                        Change::Single
                    })
                }
            }
        })
    }

    pub(crate) fn of(&self, generator: &Arc<dyn Generator>) -> NetworkHealth {
        let networks = lock(&self.networks);
        let known = networks
            .iter()
            .find(|health| is_same(&health.generator, generator));
        known.map_or_else(NetworkHealth::default, |health| NetworkHealth {
            breaker: health.breaker.state,
            single_frames: health.batching.single_until.is_some(),
        })
    }

    /// Changes whenever a breaker does.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn tell(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn with<T>(&self, generator: &Arc<dyn Generator>, act: impl FnOnce(&mut Health) -> T) -> T {
        let mut networks = lock(&self.networks);
        let known = networks
            .iter()
            .position(|health| is_same(&health.generator, generator));
        let place = known.unwrap_or_else(|| {
            networks.retain(|health| health.generator.strong_count() > 0);
            networks.push(Health {
                generator: Arc::downgrade(generator),
                device: generator.device(),
                breaker: Breaker {
                    rules: self.rules,
                    ..Breaker::default()
                },
                batching: Batching::default(),
            });
            networks.len() - 1
        });
        act(&mut networks[place])
    }
}

impl fmt::Debug for Healths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Healths").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::Fake;

    const TRIP: u32 = 5;
    const FIRST_PAUSE: Duration = Duration::from_secs(1);

    #[test]
    fn a_network_that_keeps_failing_is_refused_and_comes_back_by_and_by() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..TRIP {
            breaker.admit(now).unwrap();
            assert!(!breaker.note(Some(false), now));
        }
        breaker.note(None, now);
        breaker.note(Some(true), now);
        for n in 1..=TRIP {
            breaker.admit(now).unwrap();
            assert_eq!(breaker.note(Some(false), now), n == TRIP);
        }
        assert_eq!(breaker.admit(now), Err(FIRST_PAUSE));
        now += FIRST_PAUSE;
        breaker.admit(now).unwrap();
        assert_eq!(breaker.state, BreakerState::HalfOpen);
        assert!(breaker.admit(now).is_err(), "one at a time");
        assert!(breaker.note(Some(false), now));
        assert_eq!(breaker.admit(now), Err(2 * FIRST_PAUSE), "twice as long");
        now += 2 * FIRST_PAUSE;
        for n_allowed in [1, 2, 4, 8] {
            for _ in 0..n_allowed {
                breaker.admit(now).unwrap();
            }
            assert!(breaker.admit(now).is_err());
            breaker.note(Some(true), now);
            for _ in 1..n_allowed {
                assert!(!breaker.note(None, now));
            }
        }
        assert_eq!(breaker.state, BreakerState::Closed);
        for _ in 0..100 {
            breaker.admit(now).unwrap();
        }
        // From the beginning.
        for _ in 0..TRIP {
            breaker.note(Some(false), now);
        }
        assert_eq!(breaker.admit(now), Err(FIRST_PAUSE));
    }

    #[test]
    fn other_rules_hold_after_a_recovery_too() {
        let now = Instant::now();
        let rules = BreakerRules {
            trip_after: 1,
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(8),
        };
        let mut breaker = Breaker {
            rules,
            ..Breaker::default()
        };
        for later in [Duration::ZERO, Duration::from_secs(100)] {
            let mut now = now + later;
            breaker.admit(now).unwrap();
            assert!(breaker.note(Some(false), now));
            assert_eq!(breaker.admit(now), Err(rules.first_pause));
            now += rules.first_pause;
            breaker.admit(now).unwrap();
            assert!(breaker.note(Some(false), now));
            assert_eq!(breaker.admit(now), Err(rules.longest_pause));
            now += rules.longest_pause;
            for _ in 0..4 {
                breaker.admit(now).unwrap();
                breaker.note(Some(true), now);
            }
            assert_eq!(breaker.state, BreakerState::Closed);
        }
    }

    #[test]
    fn batches_are_given_up_and_tried_again() {
        let mut now = Instant::now();
        let healths = Healths::new(BreakerRules::default());
        let network: Arc<dyn Generator> = Arc::new(Fake::default());
        let note = |batched, now| healths.note_batch(&network, batched, now);
        assert_eq!(note(Batched::OnlySingly, now), None);
        assert_eq!(note(Batched::Worked, now), None);
        for n in 1..=GIVE_UP {
            assert!(!healths.runs_singly(&network, now));
            let change = note(Batched::OnlySingly, now);
            assert_eq!(change, (n == GIVE_UP).then_some(Change::Single));
        }
        assert!(healths.runs_singly(&network, now));
        assert!(healths.of(&network).single_frames);
        now += SINGLE;
        assert!(!healths.runs_singly(&network, now), "one is tried");
        assert_eq!(note(Batched::OnlySingly, now), None);
        assert!(healths.runs_singly(&network, now));
        now += SINGLE;
        assert_eq!(note(Batched::Worked, now), Some(Change::Batches));
        assert!(!healths.of(&network).single_frames);
    }
}
