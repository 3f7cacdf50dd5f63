//! How often somebody may begin what costs the server more than its client: a TLS handshake, a WebSocket, a call that is
//! answered at once, a message of a session.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use lipsync_core::sync::lock;
use tokio::time::{Instant, sleep};

use crate::peer::Peer;

/// Those that are looked through at least, before those at rest are forgotten.
const MIN_SWEEP: usize = 64;

/// How many starts there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartRate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// What somebody has begun lately.
#[derive(Debug, Clone, Copy, Default)]
pub struct Started {
    /// When there may be a whole burst again; `None`: now.
    full_at: Option<Instant>,
}

/// What each of many has begun lately: addresses, if nothing else is said.
#[derive(Debug)]
pub struct Starts<K = Peer>(Mutex<State<K>>);

#[derive(Debug)]
struct State<K> {
    started: HashMap<K, Started>,
    sweep_at: usize,
}

/// Waits for a turn that comes after so long.
pub async fn pause(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

impl StartRate {
    fn time_of(self, n: u32) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1) * n
    }
}

impl Started {
    /// Counts `n` starts, and says how long the first of them has to wait.
    pub fn count(&mut self, n: u32, rate: StartRate, now: Instant) -> Duration {
        let wait = self.wait(rate, now);
        let before = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = Some(before + rate.time_of(n));
        wait
    }

    /// How long a start has to wait now.
    fn wait(self, rate: StartRate, now: Instant) -> Duration {
        let ahead = self
            .full_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        ahead.saturating_sub(rate.time_of(rate.burst.max(1) - 1))
    }

    fn rests(self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

impl<K> Default for Starts<K> {
    fn default() -> Self {
        Self(Mutex::new(State {
            started: HashMap::new(),
            sweep_at: 0,
        }))
    }
}

impl<K: Clone + Eq + Hash> Starts<K> {
    /// Counts a start, and says how long it has to wait; `None` where that would be more than `patience`: then it does
    /// not count.
    pub fn wait(&self, who: &K, rate: StartRate, patience: Duration) -> Option<Duration> {
        self.wait_for(1, who, rate, patience)
    }

    /// The same for `n` starts at once.
    pub fn wait_for(
        &self,
        n: u32,
        who: &K,
        rate: StartRate,
        patience: Duration,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut started = state.started.get(who).copied().unwrap_or_default();
        let wait = started.count(n, rate, now);
        if wait > patience {
            return None;
        }
        state.forget_resting(now);
        match state.started.get_mut(who) {
            Some(known) => *known = started,
            None => drop(state.started.insert(who.clone(), started)),
        }
        Some(wait)
    }

    /// Whether a start would not have to wait now.
    pub fn has_turn(&self, who: &K, rate: StartRate) -> bool {
        let started = self.lock().started.get(who).copied().unwrap_or_default();
        started.wait(rate, Instant::now()).is_zero()
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Every change leaves the state whole.
        lock(&self.0)
    }
}

impl<K: Eq + Hash> State<K> {
    fn forget_resting(&mut self, now: Instant) {
        if self.started.len() >= self.sweep_at {
            self.started.retain(|_, started| !started.rests(now));
            self.sweep_at = (self.started.len() * 2).max(MIN_SWEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    const RATE: StartRate = StartRate {
        per_second: 10,
        burst: 5,
    };

    fn peer(n: u32) -> Peer {
        Peer::new(Ipv4Addr::from_bits(n).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_begins_at_once_and_the_rest_in_turn() {
        let starts = Starts::default();
        let wait = |n, patience| starts.wait(&peer(n), RATE, Duration::from_millis(patience));
        for _ in 0..5 {
            assert!(starts.has_turn(&peer(1), RATE));
            assert_eq!(wait(1, 0), Some(Duration::ZERO));
        }
        assert!(!starts.has_turn(&peer(1), RATE));
        assert_eq!(wait(1, 0), None, "and does not count");
        assert_eq!(wait(1, 200), Some(Duration::from_millis(100)));
        assert_eq!(wait(1, 200), Some(Duration::from_millis(200)));
        assert_eq!(wait(1, 200), None);
        assert_eq!(wait(2, 0), Some(Duration::ZERO), "others have theirs");
        advance(Duration::from_millis(300)).await;
        assert_eq!(wait(1, 0), Some(Duration::ZERO));
        assert_eq!(wait(1, 0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_at_rest_are_forgotten() {
        let starts = Starts::default();
        for n in 0..10_000 {
            assert!(starts.wait(&peer(n), RATE, Duration::ZERO).is_some());
            advance(Duration::from_millis(10)).await;
        }
        assert!(starts.lock().started.len() <= 2 * MIN_SWEEP);
    }
}
