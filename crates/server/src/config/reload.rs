//! `reload`: how a changed configuration comes into force, and when it is taken back.

use std::time::Duration;

use super::{
    BadValue,
    section::{between, section},
};

section! {
    /// `reload`, as it is written.
    RawReload in "reload";
    hot watch: bool = true;
    hot rollback_window_s: u32 = 60, 0..=3600;
    hot rollback_error_percent: u32 = 20, 1..=100;
    hot rollback_latency_factor: f64 = 3.0;
}

/// `reload`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reload {
    /// Whether a changed file is read by itself.
    pub watch: bool,
    /// How long a new configuration is on trial; zero = it never is.
    pub window: Duration,
    /// Share of calls that fail by the server's fault, from which on a configuration is taken back.
    pub error_percent: u32,
    /// Mean time of a call, in multiples of that before, from which on a configuration is taken back.
    pub latency_factor: f64,
}

impl RawReload {
    pub(super) fn check(&self) -> Result<Reload, BadValue> {
        let factor = self.rollback_latency_factor();
        let factor = between("reload.rollback_latency_factor", factor, 1.1..=1000.0)?;
        Ok(Reload {
            watch: self.watch(),
            window: Duration::from_secs(self.rollback_window_s()?),
            error_percent: u32::try_from(self.rollback_error_percent()?).unwrap_or(100),
            latency_factor: factor,
        })
    }
}
