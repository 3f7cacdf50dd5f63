//! What the server counts about its sessions.

use std::{sync::Arc, time::Duration};

use super::outbox::Kind;
use lipsync_core::saturate::micros;
use lipsync_telemetry::{Counter, Gauge, Rise};

/// Counters of sessions: of one, or of many.
#[derive(Debug, Default)]
pub struct SessionCounters {
    /// Sessions whose memory has not been given back.
    alive: Arc<Gauge>,
    opened: Counter,
    frames: Counter,
    silent_frames: Counter,
    idle_frames: Counter,
    skipped_frames: Counter,
    late_frames: Counter,
    max_late_us: Gauge,
    too_slow: Counter,
    clears: Counter,
    /// Whatever is counted here is counted there, too.
    above: Vec<Arc<SessionCounters>>,
}

/// What [`SessionCounters`] have counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Sessions whose memory has not been given back.
    pub alive: u64,
    /// Sessions that began.
    pub opened: u64,
    /// Frames sent.
    pub frames: u64,
    /// Of these, background frames in a segment's silence.
    pub silent_frames: u64,
    /// Of these, frames between segments.
    pub idle_frames: u64,
    /// Of these, background frames because there was no time for the network.
    pub skipped_frames: u64,
    /// Paced frames that left late.
    pub late_frames: u64,
    /// By how much the latest of them did, µs.
    pub max_late_us: u64,
    /// Sessions that ended because they fell behind.
    pub too_slow: u64,
    /// Interruptions.
    pub clears: u64,
}

impl SessionCounters {
    /// Counters of one session. What they count, those `above` count as well.
    #[must_use]
    pub fn below(above: Vec<Arc<Self>>) -> Self {
        Self {
            above,
            ..Self::default()
        }
    }

    /// All of them now.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        SessionStats {
            alive: self.alive.get(),
            opened: self.opened.get(),
            frames: self.frames.get(),
            silent_frames: self.silent_frames.get(),
            idle_frames: self.idle_frames.get(),
            skipped_frames: self.skipped_frames.get(),
            late_frames: self.late_frames.get(),
            max_late_us: self.max_late_us.get(),
            too_slow: self.too_slow.get(),
            clears: self.clears.get(),
        }
    }

    pub(super) fn opened(&self) {
        self.each(|counters| counters.opened.inc());
    }

    pub(super) fn sent(&self, kind: Kind) {
        self.each(|counters| {
            counters.frames.inc();
            match kind {
                Kind::Spoken => {}
                Kind::Silent => counters.silent_frames.inc(),
                Kind::Idle => counters.idle_frames.inc(),
                Kind::Skipped => counters.skipped_frames.inc(),
            }
        });
    }

    pub(super) fn late(&self, late: Duration) {
        self.each(|counters| {
            counters.late_frames.inc();
            counters.max_late_us.raise_to(micros(late));
        });
    }

    pub(super) fn too_slow(&self) {
        self.each(|counters| counters.too_slow.inc());
    }

    pub(super) fn cleared(&self) {
        self.each(|counters| counters.clears.inc());
    }

    fn each(&self, count: impl Fn(&Self)) {
        count(self);
        for counters in &self.above {
            count(counters);
        }
    }
}

/// Counts a session as alive until it is dropped.
#[derive(Debug)]
pub struct Alive {
    _rise: Rise,
}

impl Alive {
    /// Alive from now on.
    #[must_use]
    pub fn new(counters: &SessionCounters) -> Self {
        Self {
            _rise: Rise::new(Arc::clone(&counters.alive)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_for_itself_and_for_all_above() {
        let all = Arc::<SessionCounters>::default();
        let [one, other] = [(); 2].map(|()| SessionCounters::below(vec![Arc::clone(&all)]));
        one.opened();
        one.sent(Kind::Skipped);
        other.sent(Kind::Spoken);
        other.late(Duration::from_millis(3));
        one.late(Duration::from_millis(2));
        let late = |counters: &SessionCounters| counters.stats().max_late_us;
        assert_eq!((late(&one), late(&other), late(&all)), (2000, 3000, 3000));
        let sum = SessionStats {
            opened: 1,
            frames: 2,
            skipped_frames: 1,
            late_frames: 2,
            max_late_us: 3000,
            ..SessionStats::default()
        };
        assert_eq!(all.stats(), sum);
        assert_eq!(one.stats().frames, 1);
    }

    #[test]
    fn a_session_is_alive_until_it_is_dropped() {
        let counters = SessionCounters::default();
        let alive = Alive::new(&counters);
        assert_eq!(counters.stats().alive, 1);
        drop(alive);
        assert_eq!(counters.stats().alive, 0);
    }
}
