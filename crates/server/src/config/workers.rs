//! `server.worker_count`: a number, a range, or `auto`.

use std::{fmt, sync::OnceLock, thread::available_parallelism};

use lipsync_core::saturate::usize_of;
use lipsync_worker_pool::scaling::WorkerRange;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, value::MapAccessDeserializer},
};

use super::{BadValue, section::in_range};

/// What may be written. The name under which it is read, so that the reader can say it.
pub(super) const WORKER_COUNT: &str = "a whole number, auto, or {min: 2, max: 8}";

const KEY: &str = "server.worker_count";
/// The most workers that there may be.
const MAX: u64 = 256;
/// Workers that an adapted number begins with, if the range has them.
const START: usize = 4;
/// The most on GPUs if nothing is said. They share the device's memory.
const MAX_ON_GPUS: usize = 8;

/// As it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawWorkerCount {
    Fixed(u64),
    Auto,
    Range(RawRange),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRange {
    min: Option<u64>,
    max: Option<u64>,
}

/// How many workers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCount {
    /// Always as many.
    Fixed(usize),
    /// As many as the load needs, within a range.
    Adapted(WorkerRange),
}

impl WorkerCount {
    /// The most that there will be: memory is set aside for these.
    #[must_use]
    pub fn max(self) -> usize {
        match self {
            Self::Fixed(n) => n,
            Self::Adapted(range) => range.max,
        }
    }

    /// How many there are at first.
    #[must_use]
    pub fn at_start(self) -> usize {
        match self {
            Self::Fixed(n) => n,
            Self::Adapted(range) => START.clamp(range.min, range.max),
        }
    }

    /// The fewest and the most.
    #[must_use]
    pub fn bounds(self) -> (usize, usize) {
        match self {
            Self::Fixed(n) => (n, n),
            Self::Adapted(range) => (range.min, range.max),
        }
    }

    /// On the CPU engine: no more workers than cores. More would do no more work and only take turns at the cores, so that
    /// each batch takes longer.
    #[must_use]
    pub fn on_cpu(self) -> Self {
        match self {
            Self::Fixed(n) => Self::Fixed(n.min(n_cores())),
            Self::Adapted(_) => self,
        }
    }

    /// The range, if the number is adapted.
    #[must_use]
    pub fn range(self) -> Option<WorkerRange> {
        match self {
            Self::Fixed(_) => None,
            Self::Adapted(range) => Some(range),
        }
    }
}

impl fmt::Display for WorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Adapted(WorkerRange { min, max }) => write!(f, "{min} to {max}"),
        }
    }
}

/// Cores that this process may use, as when it first asked.
pub(crate) fn n_cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

impl RawWorkerCount {
    /// What it means where networks run on the CPU or elsewhere, on a machine of this many cores.
    pub(super) fn check(
        self,
        is_cpu: bool,
        n_cores: usize,
        warnings: &mut Vec<String>,
    ) -> Result<WorkerCount, BadValue> {
        let most = match is_cpu {
            true => n_cores.min(usize_of(MAX)),
            false => MAX_ON_GPUS,
        };
        match self {
            Self::Fixed(n) => Ok(WorkerCount::Fixed(usize_of(in_range(KEY, n, 1..=MAX)?))),
            Self::Auto => Ok(WorkerCount::Adapted(WorkerRange {
                min: most.min(2),
                max: most,
            })),
            Self::Range(RawRange { min, max }) => {
                let min = in_range("server.worker_count.min", min.unwrap_or(1), 1..=MAX)?;
                let max = max.unwrap_or_else(|| min.max(most as u64));
                let max = in_range("server.worker_count.max", max, min..=MAX)?;
                let (mut min, mut max) = (usize_of(min), usize_of(max));
                if is_cpu && max > n_cores {
                    warnings.push(format!(
                        "{KEY}: up to {max} workers, but this machine has {n_cores} cores, and more workers than cores \
                         add no speed: there will be at most {n_cores}"
                    ));
                    (min, max) = (min.min(n_cores), n_cores);
                }
                Ok(WorkerCount::Adapted(WorkerRange { min, max }))
            }
        }
    }
}

/// `2-8`, for environment variables.
fn range_of(text: &str) -> Option<RawRange> {
    let (min, max) = text.split_once('-')?;
    let number = |text: &str| text.trim().parse().ok();
    Some(RawRange {
        min: Some(number(min)?),
        max: Some(number(max)?),
    })
}

/// Whether a text is one of the words that stand for a number of workers.
pub(super) fn is_worker_count(text: &str) -> bool {
    text == "auto" || range_of(text).is_some()
}

impl<'de> Deserialize<'de> for RawWorkerCount {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> de::Visitor<'de> for Any {
            type Value = RawWorkerCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WORKER_COUNT)
            }

            fn visit_u64<E>(self, n: u64) -> Result<RawWorkerCount, E> {
                Ok(RawWorkerCount::Fixed(n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawWorkerCount, E> {
                match (text, range_of(text)) {
                    ("auto", _) => Ok(RawWorkerCount::Auto),
                    (_, Some(range)) => Ok(RawWorkerCount::Range(range)),
                    _ => Err(E::custom(format!("expected {WORKER_COUNT}"))),
                }
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RawWorkerCount, M::Error> {
                let range = RawRange::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawWorkerCount::Range(range))
            }

            /// Only of a reader that has nothing to say.
            fn visit_unit<E>(self) -> Result<RawWorkerCount, E> {
                Ok(RawWorkerCount::Auto)
            }
        }

        input.deserialize_newtype_struct(WORKER_COUNT, Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(raw: RawWorkerCount, is_cpu: bool, n_cores: usize) -> (WorkerCount, usize) {
        let mut warnings = Vec::new();
        let count = raw.check(is_cpu, n_cores, &mut warnings).unwrap();
        (count, warnings.len())
    }

    #[test]
    fn on_the_cpu_a_worker_has_a_core() {
        let n = n_cores();
        assert_eq!(WorkerCount::Fixed(n + 1).on_cpu(), WorkerCount::Fixed(n));
        assert_eq!(WorkerCount::Fixed(1).on_cpu(), WorkerCount::Fixed(1));
    }

    #[test]
    fn on_the_cpu_an_adapted_number_stays_within_the_cores() {
        let adapted = |min, max| WorkerCount::Adapted(WorkerRange { min, max });
        let range = |min, max| RawWorkerCount::Range(RawRange { min, max });
        for (raw, is_cpu, n_cores, expected, n_warnings) in [
            (RawWorkerCount::Auto, true, 1, adapted(1, 1), 0),
            (RawWorkerCount::Auto, true, 16, adapted(2, 16), 0),
            (RawWorkerCount::Auto, true, 999, adapted(2, 256), 0),
            (RawWorkerCount::Auto, false, 2, adapted(2, 8), 0),
            (range(Some(2), Some(8)), true, 4, adapted(2, 4), 1),
            (range(Some(6), Some(8)), true, 4, adapted(4, 4), 1),
            (range(Some(2), Some(8)), true, 8, adapted(2, 8), 0),
            (range(Some(2), Some(64)), false, 2, adapted(2, 64), 0),
            (range(None, None), true, 8, adapted(1, 8), 0),
            (range(Some(12), None), false, 2, adapted(12, 12), 0),
            (
                RawWorkerCount::Fixed(64),
                true,
                2,
                WorkerCount::Fixed(64),
                0,
            ),
        ] {
            let found = checked(raw, is_cpu, n_cores);
            assert_eq!(found, (expected, n_warnings), "{raw:?}");
        }
        assert_eq!(adapted(2, 16).at_start(), 4);
        assert_eq!(adapted(6, 16).at_start(), 6);
        assert_eq!(adapted(1, 2).at_start(), 2);
    }

    #[test]
    fn ranges_that_cannot_be_are_refused() {
        for (min, max, key) in [
            (
                Some(0),
                Some(4),
                "server.worker_count.min: expected 1 to 256, found 0",
            ),
            (
                Some(5),
                Some(4),
                "server.worker_count.max: expected 5 to 256, found 4",
            ),
            (
                None,
                Some(257),
                "server.worker_count.max: expected 1 to 256, found 257",
            ),
        ] {
            let raw = RawWorkerCount::Range(RawRange { min, max });
            let refused = raw.check(true, 4, &mut Vec::new()).unwrap_err();
            assert_eq!(refused.sentence(), key);
        }
        for text in ["", "2-", "-8", "a-b", "2..8", "AUTO"] {
            assert!(!is_worker_count(text), "{text}");
        }
        assert!(is_worker_count("2-8") && is_worker_count("auto"));
    }
}
