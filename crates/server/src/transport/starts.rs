//! How often one address may begin what costs the server more than its client: a TLS handshake, a WebSocket.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use lipsync_core::sync::lock;
use lipsync_serving::peer::Peer;
use tokio::time::Instant;

/// Addresses that are looked through at least, before those at rest are forgotten.
const MIN_SWEEP: usize = 64;

/// How many starts there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartRate {
    /// In the long run.
    pub(crate) per_second: u32,
    /// At once, after a rest.
    pub(crate) burst: u32,
}

impl StartRate {
    fn every(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }
}

/// What addresses have begun lately.
#[derive(Debug, Default)]
pub(crate) struct Starts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When each address will have all of its burst again.
    full_at: HashMap<Peer, Instant>,
    sweep_at: usize,
}

impl Starts {
    /// Counts a start, and says how long it has to wait; `None` where that would be more than `patience`: then it does
    /// not count.
    pub(crate) fn wait(&self, peer: Peer, rate: StartRate, patience: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        let before = state.full_at.get(&peer).map_or(now, |&at| at.max(now));
        let full_at = before + rate.every();
        let wait = (full_at - now).saturating_sub(rate.every() * rate.burst.max(1));
        if wait > patience {
            return None;
        }
        state.forget_resting(now);
        state.full_at.insert(peer, full_at);
        Some(wait)
    }

    /// Whether a start would not have to wait now.
    pub(crate) fn has_turn(&self, peer: Peer, rate: StartRate) -> bool {
        let now = Instant::now();
        let full_at = self.lock().full_at.get(&peer).copied();
        let ahead = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        ahead + rate.every() <= rate.every() * rate.burst.max(1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        lock(&self.0)
    }
}

impl State {
    fn forget_resting(&mut self, now: Instant) {
        if self.full_at.len() >= self.sweep_at {
            self.full_at.retain(|_, &mut at| at > now);
            self.sweep_at = (self.full_at.len() * 2).max(MIN_SWEEP);
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
        let wait = |n, patience| starts.wait(peer(n), RATE, Duration::from_millis(patience));
        for _ in 0..5 {
            assert!(starts.has_turn(peer(1), RATE));
            assert_eq!(wait(1, 0), Some(Duration::ZERO));
        }
        assert!(!starts.has_turn(peer(1), RATE));
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
            assert!(starts.wait(peer(n), RATE, Duration::ZERO).is_some());
            advance(Duration::from_millis(10)).await;
        }
        assert!(starts.lock().full_at.len() <= 2 * MIN_SWEEP);
    }
}
