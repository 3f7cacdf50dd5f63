//! What the engine asks of a device: a small seam with two sides.
//!
//! [`nvidia`] is the real thing, [`fake`] a device that exists in the host's memory only.

use std::fmt;

use super::DeviceInfo;
use crate::EngineError;

pub(crate) mod fake;
pub(crate) mod nvidia;

/// An opened device.
pub(crate) trait Driver: fmt::Debug + Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Free and total memory, in bytes.
    fn memory(&self) -> Result<(u64, u64), EngineError>;
}
