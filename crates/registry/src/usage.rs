//! What is remembered of a model's use, across loads, unloads and changes of the configuration.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use lipsync_telemetry::{Buckets, Counter, Histogram};

use crate::{EvictionPolicy, ModelTimes, UnloadReason, lock};

/// Shared by a model and its entry in the registry.
pub(crate) struct Usage {
    /// Ticks once per event of any model: unlike a clock it never shows the same time twice.
    turns: Arc<AtomicU64>,
    record: Mutex<UsageRecord>,
    load_times: Histogram,
    unloads: [Counter; UnloadReason::ALL.len()],
}

/// A copy of the figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsageRecord {
    pub count: u64,
    pub last_used: Option<SystemTime>,
    pub frames: u64,
    pub total_inference: Duration,
    pub loads: u64,
    /// The last load or use.
    pub last_active: Instant,
    last_turn: u64,
}

impl Usage {
    pub(crate) fn new(turns: Arc<AtomicU64>) -> Self {
        Self {
            turns,
            record: Mutex::new(UsageRecord {
                count: 0,
                last_used: None,
                frames: 0,
                total_inference: Duration::ZERO,
                loads: 0,
                last_active: Instant::now(),
                last_turn: 0,
            }),
            load_times: Histogram::new(&Buckets::LOAD),
            unloads: UnloadReason::ALL.map(|_| Counter::default()),
        }
    }

    pub(crate) fn record(&self) -> UsageRecord {
        *lock(&self.record)
    }

    /// It was loaded.
    pub(crate) fn count_load(&self) {
        self.update(|record| record.loads += 1);
    }

    /// A load of it has ended, well or not.
    pub(crate) fn count_load_time(&self, time: Duration) {
        self.load_times.observe_time(time);
    }

    /// It was dropped, which makes it no more worth keeping.
    pub(crate) fn count_unload(&self, reason: UnloadReason) {
        self.unloads[reason as usize].inc();
    }

    /// What its loads took, and why it was dropped.
    pub(crate) fn times(&self) -> ModelTimes {
        ModelTimes {
            loads: self.load_times.snapshot(),
            unloads: UnloadReason::ALL.map(|reason| (reason, self.unloads[reason as usize].get())),
        }
    }

    /// A request uses it.
    pub(crate) fn count_request(&self) {
        self.update(|record| {
            record.count += 1;
            record.last_used = Some(SystemTime::now());
        });
    }

    /// Its network made `frames` frames in `inference`.
    pub(crate) fn add_work(&self, frames: u64, inference: Duration) {
        self.update(|record| {
            record.frames += frames;
            record.total_inference += inference;
            record.last_used = Some(SystemTime::now());
        });
    }

    fn update(&self, change: impl FnOnce(&mut UsageRecord)) {
        let mut record = lock(&self.record);
        record.last_turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        record.last_active = Instant::now();
        change(&mut record);
    }
}

impl UsageRecord {
    /// Models are dropped in ascending order of this.
    pub(crate) fn worth(&self, policy: EvictionPolicy) -> (u64, u64) {
        policy.worth(self.count, self.last_turn)
    }

    pub(crate) fn last_used_unix_ms(&self) -> Option<u64> {
        let since = self
            .last_used?
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?;
        u64::try_from(since.as_millis()).ok()
    }
}
