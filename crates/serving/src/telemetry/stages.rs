//! Where the time of frames goes, added up since the server started.

use std::time::Duration;

use lipsync_core::saturate::u64_of;
use lipsync_telemetry::{Buckets, Counter, Histogram, HistogramSnapshot};

/// A step on the way from audio to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Samples or feature steps become windows.
    Audio,
    /// Background frames are found in the cache, or read and decoded.
    Background,
    /// A batch waits for a worker.
    Queue,
    /// The network, from the first start to the last end of a batch.
    Infer,
    /// Faces are pasted and pictures coded.
    Composite,
}

impl Stage {
    /// All of them, in the order in which a frame meets them.
    pub const ALL: [Self; 5] = [
        Self::Audio,
        Self::Background,
        Self::Queue,
        Self::Infer,
        Self::Composite,
    ];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Background => "background",
            Self::Queue => "queue",
            Self::Infer => "infer",
            Self::Composite => "composite",
        }
    }
}

/// What one stage took so far. The numbers are read one after the other: they may differ by what was added in
/// between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTime {
    /// Wall times of the batches that went through it.
    pub times: HistogramSnapshot,
    /// Their frames.
    pub frames: u64,
}

impl StageTime {
    /// Batches that went through it.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.times.count()
    }

    /// Wall time of all of them, µs.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.times.sum
    }
}

/// The figures of all stages; additions only, without a lock.
#[derive(Debug)]
pub struct StageClocks([Clock; Stage::ALL.len()]);

#[derive(Debug)]
struct Clock {
    times: Histogram,
    frames: Counter,
}

impl Default for StageClocks {
    fn default() -> Self {
        Self(Stage::ALL.map(|_| Clock {
            times: Histogram::new(&Buckets::LATENCY),
            frames: Counter::default(),
        }))
    }
}

impl StageClocks {
    /// Adds a run that went well.
    pub(crate) fn add(&self, stage: Stage, n_frames: usize, time: Duration) {
        let clock = &self.0[stage as usize];
        clock.times.observe_time(time);
        clock.frames.add(u64_of(n_frames));
    }

    /// What a stage took so far.
    #[must_use]
    pub fn of(&self, stage: Stage) -> StageTime {
        let clock = &self.0[stage as usize];
        StageTime {
            times: clock.times.snapshot(),
            frames: clock.frames.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_stage_by_stage() {
        let clocks = StageClocks::default();
        clocks.add(Stage::Infer, 8, Duration::from_micros(700));
        clocks.add(Stage::Infer, 1, Duration::from_micros(300));
        for stage in Stage::ALL {
            let time = clocks.of(stage);
            let expected = match stage {
                Stage::Infer => (2, 9, 1000),
                _ => (0, 0, 0),
            };
            let found = (time.runs(), time.frames, time.total_us());
            assert_eq!(found, expected, "{}", stage.name());
        }
    }
}
