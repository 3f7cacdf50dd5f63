//! Where the time of frames goes, added up since the server started.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

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

/// What one stage took so far. The three numbers are read one after the other: they may differ by
/// what was added in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTime {
    /// Batches that went through it.
    pub runs: u64,
    /// Their frames.
    pub frames: u64,
    /// Wall time of all runs.
    pub total: Duration,
}

/// The counters of all stages; additions only, without a lock.
#[derive(Debug, Default)]
pub struct StageClocks([Counters; Stage::ALL.len()]);

#[derive(Debug, Default)]
struct Counters {
    runs: AtomicU64,
    frames: AtomicU64,
    total_us: AtomicU64,
}

impl StageClocks {
    /// Adds a run that went well.
    pub(crate) fn add(&self, stage: Stage, n_frames: usize, time: Duration) {
        let counters = &self.0[stage as usize];
        let add = |sum: &AtomicU64, n: u64| sum.fetch_add(n, Ordering::Relaxed);
        add(&counters.runs, 1);
        add(&counters.frames, u64::try_from(n_frames).unwrap_or(0));
        let micros = u64::try_from(time.as_micros()).unwrap_or(0);
        add(&counters.total_us, micros);
    }

    /// What a stage took so far.
    #[must_use]
    pub fn of(&self, stage: Stage) -> StageTime {
        let counters = &self.0[stage as usize];
        StageTime {
            runs: counters.runs.load(Ordering::Relaxed),
            frames: counters.frames.load(Ordering::Relaxed),
            total: Duration::from_micros(counters.total_us.load(Ordering::Relaxed)),
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
        let infer = StageTime {
            runs: 2,
            frames: 9,
            total: Duration::from_millis(1),
        };
        for stage in Stage::ALL {
            let expected = if stage == Stage::Infer {
                infer
            } else {
                StageTime::default()
            };
            assert_eq!(clocks.of(stage), expected, "{}", stage.name());
        }
    }
}
