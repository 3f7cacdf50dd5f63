//! Where a network runs.

use std::fmt;

/// A processor that runs networks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The host's processor.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(u32),
}

impl fmt::Display for Device {
    /// `cpu` or `cuda:0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_as_configurations_name_it() {
        assert_eq!(Device::default().to_string(), "cpu");
        assert_eq!(Device::Cuda(3).to_string(), "cuda:3");
    }
}
