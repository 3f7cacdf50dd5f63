//! What a day comes to.

use anyhow::Result;
use hdrhistogram::Histogram;

/// A day.
const LONGEST_US: u64 = 86_400_000_000;

/// Counts and times of what is measured: not of the time in which caches fill.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Calls and conversations that asked for a model.
    pub(crate) n_asked: u64,
    /// Loads that began for them.
    pub(crate) n_loads: u64,
    pub(crate) n_calls: u64,
    pub(crate) n_refused_calls: u64,
    pub(crate) n_conversations: u64,
    pub(crate) n_refused_conversations: u64,
    /// Frames that live sessions showed, and those of them without the network, because they would have been late.
    pub(crate) n_live_frames: u64,
    pub(crate) n_skipped_frames: u64,
    /// From a call to its answer, us.
    pub(crate) call_us: Histogram<u64>,
    /// From the opening of a session until it may speak, us.
    pub(crate) open_us: Histogram<u64>,
    /// From the speech of a reply to its first frame, us.
    pub(crate) first_frame_us: Histogram<u64>,
    /// Core-nanoseconds that were used, on each host.
    pub(crate) used_ns: Vec<f64>,
    /// Time that was measured.
    pub(crate) lasted_ns: u64,
    /// Most sessions open at once, over all.
    pub(crate) max_open: u64,
}

impl Found {
    pub(crate) fn new() -> Result<Self> {
        let times = Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3)?;
        Ok(Self {
            n_asked: 0,
            n_loads: 0,
            n_calls: 0,
            n_refused_calls: 0,
            n_conversations: 0,
            n_refused_conversations: 0,
            n_live_frames: 0,
            n_skipped_frames: 0,
            call_us: times.clone(),
            open_us: times.clone(),
            first_frame_us: times,
            used_ns: Vec::new(),
            lasted_ns: 0,
            max_open: 0,
        })
    }

    /// Share of calls and conversations whose model was in memory, or on its way for another.
    pub(crate) fn hit_rate(&self) -> f64 {
        1.0 - share(self.n_loads, self.n_asked)
    }

    /// Share of conversations and calls that were refused.
    pub(crate) fn refused(&self) -> f64 {
        share(
            self.n_refused_calls + self.n_refused_conversations,
            self.n_calls + self.n_conversations,
        )
    }

    /// Share of live frames that were shown without the network.
    pub(crate) fn skipped(&self) -> f64 {
        share(self.n_skipped_frames, self.n_live_frames)
    }

    /// Calls that were answered, a second.
    pub(crate) fn throughput(&self) -> f64 {
        ratio(self.n_calls - self.n_refused_calls, self.lasted_ns) * 1e9
    }

    /// Whether it is good enough for people: 1 in 1,000 refused or without the network, and a reply within a second.
    pub(crate) fn is_good(&self) -> bool {
        let first_frame = self.first_frame_us.value_at_quantile(0.95);
        self.refused() <= 0.001 && self.skipped() <= 0.001 && first_frame <= 1_000_000
    }
}

/// `part / all`; 0 where there is nothing.
pub(crate) fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { ratio(part, all) }
}

#[expect(clippy::cast_precision_loss, reason = "ratios for people")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}
