//! How a network is to be loaded.

use std::{fmt, sync::Arc};

use crate::{
    CpuIsa, EngineError, VisualCache,
    cpu::kernels::Isa,
    cuda::{Blocks, Cuda},
    graph::Graph,
};

/// What a loader is told besides the file.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Which instructions the kernels use.
    pub isa: CpuIsa,
    /// In which numbers a generator stores weights and activations.
    pub precision: Precision,
    /// The device that a network is for; `None`: the host's processor. Networks on a CUDA device look neither
    /// at [`isa`](Self::isa) nor at [`precision`](Self::precision): they store fp16 and sum in f32.
    pub device: Option<Arc<Cuda>>,
    /// Where a generator keeps what depends on background frames alone; `None`: it keeps nothing. The
    /// entries of a CUDA generator lie in its device's memory, so it wants a cache of its own.
    pub visual_cache: Option<Arc<VisualCache>>,
    /// How a CUDA generator runs its inverted residual blocks.
    pub blocks: Blocks,
    /// The most frames that a CUDA generator runs at once, and a worker holds memory for; `None`: as many as
    /// there are launches for. More are run in several batches.
    pub max_batch: Option<usize>,
    /// Workers that will run a CUDA generator: each captures its launches, which takes memory of the device.
    pub n_workers: usize,
    /// What a network may take.
    pub limits: NetworkLimits,
}

/// What a network may take at most; the default is no limit but those of the import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkLimits {
    /// Multiplications and additions of one frame, counted in pairs.
    pub max_macs: u64,
    /// Bytes that one worker holds to run it, on a GPU one frame at a time.
    pub max_arena_bytes: u64,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            max_macs: u64::MAX,
            max_arena_bytes: u64::MAX,
        }
    }
}

impl NetworkLimits {
    pub(crate) fn check_macs(&self, graph: &Graph) -> Result<(), EngineError> {
        let (n_macs, max_macs) = (graph.macs(), self.max_macs);
        if n_macs <= max_macs {
            return Ok(());
        }
        Err(EngineError::TooManyMacs { n_macs, max_macs })
    }

    pub(crate) fn check_arena(&self, n_bytes: u64) -> Result<(), EngineError> {
        let max_bytes = self.max_arena_bytes;
        if n_bytes <= max_bytes {
            return Ok(());
        }
        Err(EngineError::ArenaTooLarge { n_bytes, max_bytes })
    }
}

impl From<CpuIsa> for LoadOptions {
    /// The given instructions, and the defaults otherwise.
    fn from(isa: CpuIsa) -> Self {
        Self {
            isa,
            ..Self::default()
        }
    }
}

/// The numbers in which weights and activations are stored; sums are f32 in all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// The upper 16 bits of an f32, rounded to nearest even: 8 bits of mantissa.
    Bf16,
    /// f32, but matrix products are computed in 16-bit integers with exact sums.
    Int16,
    /// As [`Int16`](Self::Int16), but these steps of the plan compute their products in bytes of this kind; of one kind
    /// as [`Bf16`](Self::Bf16) but for them.
    Int8(Int8Kind, Steps),
}

/// How products in bytes are rounded. Every instruction set computes all, to the same integers; each is fast with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Int8Kind {
    /// Inputs of 7 bits, and weights as coarse as keeps their sums of 16 bits from saturating: what AVX2 multiplies.
    Narrow,
    /// Inputs and weights of 8 bits: what the instructions of VNNI multiply.
    Full,
    /// As [`Full`](Self::Full), but activations are stored as bf16, and the other steps compute in bf16 instead of
    /// 16-bit integers: for CPUs that have instructions for both.
    FullBf16,
}

impl Int8Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Narrow, Self::Full, Self::FullBf16];
}

impl fmt::Display for Int8Kind {
    /// The instructions that it is made for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Narrow => "AVX2",
            Self::Full => "VNNI",
            Self::FullBf16 => "VNNI and bf16",
        })
    }
}

/// Steps of a network's plan, by the numbers that [`PlanReport`](crate::PlanReport) gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Steps {
    /// One bit each.
    bits: u128,
    /// How many steps the plan has for which the set was made; 0: any number.
    n_steps: usize,
}

impl Steps {
    /// Every step of any plan.
    pub const ALL: Self = Self {
        bits: u128::MAX,
        n_steps: 0,
    };

    /// Numbers that a set can hold: those below this.
    pub const MAX: usize = 128;

    /// The steps `numbers` of a plan of `n_steps`. What is not below [`MAX`](Self::MAX) is left out.
    #[must_use]
    pub fn of(n_steps: usize, numbers: impl IntoIterator<Item = usize>) -> Self {
        let bit = |number: usize| if number < Self::MAX { 1 << number } else { 0 };
        Self {
            bits: numbers
                .into_iter()
                .fold(0, |bits, number| bits | bit(number)),
            n_steps,
        }
    }

    /// Whether step `number` of a plan of `n_steps` is in it. Of a plan with another number of steps than the
    /// set was made for, none is.
    #[must_use]
    pub fn contains(self, number: usize, n_steps: usize) -> bool {
        let is_of_plan = self.n_steps == 0 || self.n_steps == n_steps;
        is_of_plan && number < Self::MAX && self.bits >> number & 1 == 1
    }
}

impl Precision {
    /// The same, but int8 of the kind that `isa` is fast with.
    #[must_use]
    pub fn suited_to(self, isa: Isa) -> Self {
        match self {
            Self::Int8(_, steps) => Self::Int8(isa.int8(), steps),
            other => other,
        }
    }

    /// Parses `f32`, `bf16`, `int16` or `int8`, which is [full](Int8Kind::Full) int8 in all steps.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            "int16" => Some(Self::Int16),
            "int8" => Some(Self::Int8(Int8Kind::Full, Steps::ALL)),
            _ => None,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int16 => "int16",
            Self::Int8(..) => "int8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_of_one_plan_or_of_all() {
        let steps = Steps::of(40, [0, 39, 127, 128, 4_000]);
        let held: Vec<usize> = (0..200).filter(|&i| steps.contains(i, 40)).collect();
        assert_eq!(held, [0, 39, 127]);
        assert!((0..200).all(|i| !steps.contains(i, 41)));
        assert!((0..128).all(|i| Steps::ALL.contains(i, 40)));
        assert!(!Steps::ALL.contains(128, 200), "an honest limit");
    }

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for name in ["f32", "bf16", "int16", "int8"] {
            let precision = Precision::parse(name).expect("a precision");
            assert_eq!(precision.to_string(), name);
        }
        assert_eq!(Precision::parse("int4"), None);
    }
}
