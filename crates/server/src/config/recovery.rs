//! `recovery`: what is tried before something fails, and when a model is refused that keeps failing.

use std::time::Duration;

use lipsync_core::saturate::{u32_of, usize_of};
use lipsync_worker_pool::{BreakerRules, Recovery};

use super::{
    BadValue,
    section::{in_range, section},
};

section! {
    /// `recovery`, as it is written.
    RawRecovery in "recovery";
    cold max_tries: u32 = 4, 1..=10;
    cold backoff_ms: u32 = 50, 0..=10_000;
    cold refuse_after: u32 = 5, 0..=1000;
    cold first_pause_s: u32 = 1, 1..=3600;
    cold longest_pause_s: u32 = 60;
}

impl RawRecovery {
    pub(super) fn check(&self) -> Result<Recovery, BadValue> {
        let number = |value: u64| u32_of(usize_of(value));
        let first_pause_s = self.first_pause_s()?;
        let longest_pause_s = self.longest_pause_s().into();
        let key = "recovery.longest_pause_s";
        let longest_pause_s = in_range(key, longest_pause_s, first_pause_s..=86_400)?;
        let trip_after = number(self.refuse_after()?);
        Ok(Recovery {
            max_tries: number(self.max_tries()?),
            backoff: Duration::from_millis(self.backoff_ms()?),
            breaker: (trip_after > 0).then_some(BreakerRules {
                trip_after,
                first_pause: Duration::from_secs(first_pause_s),
                longest_pause: Duration::from_secs(longest_pause_s),
            }),
        })
    }
}
