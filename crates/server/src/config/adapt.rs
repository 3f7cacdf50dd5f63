//! `adapt`: what the server changes by itself while it runs.

use super::{BadValue, section::section};
use crate::adapt::WatchRules;

section! {
    /// `adapt`, as it is written.
    RawAdapt in "adapt";
    hot watch: bool = true;
    hot latency_percent: u32 = 20, 0..=1000;
    hot throughput_percent: u32 = 15, 0..=99;
    hot errors_percent: u32 = 1, 0..=100;
    hot memory_percent: u32 = 95, 0..=100;
    hot act_after_s: u64 = 30, 10..=3600;
    hot undo_after_s: u64 = 60, 10..=3600;
    hot predict: bool = true;
}

/// `adapt`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapt {
    /// When something is done about a server that is worse than usual; `None`: never.
    pub watch: Option<WatchRules>,
    /// Whether models are loaded, and workers join, before they are expected to be needed.
    pub predict: bool,
}

impl RawAdapt {
    pub(super) fn check(&self) -> Result<Adapt, BadValue> {
        // 0 is no limit.
        let part = |percent: u64| (percent > 0).then_some(percent as f64 / 100.0);
        let rules = WatchRules {
            latency: part(self.latency_percent()?),
            throughput: part(self.throughput_percent()?),
            errors: part(self.errors_percent()?),
            memory: part(self.memory_percent()?),
            act_after_s: self.act_after_s()?,
            undo_after_s: self.undo_after_s()?,
        };
        Ok(Adapt {
            watch: self.watch().then_some(rules),
            predict: self.predict(),
        })
    }
}
