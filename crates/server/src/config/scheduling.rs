//! `scheduling`: what keeps slow networks from having every worker, and heavy ones from running side by side.

use std::time::Duration;

use lipsync_core::saturate::{u32_of, usize_of};
use lipsync_worker_pool::Scheduling;

use super::{
    BadValue,
    section::{gmacs, in_range, section},
};

section! {
    /// `scheduling`, as it is written.
    RawScheduling in "scheduling";
    cold fast_below_ms: u32 = 100, 1..=60_000;
    cold slow_above_ms: u32 = 500;
    cold fast_max_batch: u32 = 64, 1..=64;
    cold medium_max_batch: u32 = 32, 1..=64;
    cold slow_max_batch: u32 = 16, 1..=64;
    cold medium_workers_percent: u32 = 50, 1..=100;
    cold slow_workers_percent: u32 = 25, 1..=100;
    cold small_below_gmac: f64 = 0.5;
    cold mid_below_gmac: f64 = 2.0;
    cold large_below_gmac: f64 = 8.0;
    cold small_at_once: u32 = 5, 1..=256;
    cold mid_at_once: u32 = 4, 1..=256;
    cold large_at_once: u32 = 3, 1..=256;
    cold huge_at_once: u32 = 1, 1..=256;
}

impl RawScheduling {
    pub(super) fn check(&self) -> Result<Scheduling, BadValue> {
        let fast_below = self.fast_below_ms()?;
        let slow_above = self.slow_above_ms().into();
        let slow_above = in_range("scheduling.slow_above_ms", slow_above, fast_below..=600_000)?;
        let max_batch = [
            self.fast_max_batch()?,
            self.medium_max_batch()?,
            self.slow_max_batch()?,
        ];
        let at_once = [
            self.small_at_once()?,
            self.mid_at_once()?,
            self.large_at_once()?,
            self.huge_at_once()?,
        ];
        let percent = |value: u64| u32_of(usize_of(value));
        Ok(Scheduling {
            fast_below: Duration::from_millis(fast_below),
            slow_above: Duration::from_millis(slow_above),
            max_batch_frames: max_batch.map(usize_of),
            medium_workers_percent: percent(self.medium_workers_percent()?),
            slow_workers_percent: percent(self.slow_workers_percent()?),
            size_classes_macs: self.size_classes()?,
            size_class_limits: at_once.map(usize_of),
        })
    }

    /// Where the size classes end, in MACs.
    fn size_classes(&self) -> Result<[u64; 3], BadValue> {
        let ends = [
            ("scheduling.small_below_gmac", self.small_below_gmac()),
            ("scheduling.mid_below_gmac", self.mid_below_gmac()),
            ("scheduling.large_below_gmac", self.large_below_gmac()),
        ];
        for [(_, below), (key, value)] in [[ends[0], ends[1]], [ends[1], ends[2]]] {
            if value < below {
                return Err(BadValue {
                    key: key.into(),
                    message: format!(
                        "expected at least {below}, where the class before it ends, found {value}"
                    ),
                });
            }
        }
        let [small, mid, large] = ends.map(|(key, value)| gmacs(key, value));
        Ok([small?, mid?, large?])
    }
}
