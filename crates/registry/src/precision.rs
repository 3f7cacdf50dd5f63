//! In which numbers a generator runs: what was asked for, what it got, and why.

use std::fmt;

use lipsync_engine::Precision;

use crate::Verdict;

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// bf16 where the CPU has the instructions and a good [`Verdict`] about the generator is there;
    /// f32 otherwise.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16 where the CPU has the instructions, whatever the verdict.
    Bf16,
}

/// The numbers that a model's generator runs in.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionInUse {
    /// Which, on the host; see [`name`](Self::name).
    pub precision: Precision,
    /// Why.
    pub reason: PrecisionReason,
    /// What a comparison of the generator's frames in bf16 and f32 found, if there was one.
    pub verdict: Option<Verdict>,
}

/// Why a generator runs in the numbers that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrecisionReason {
    /// The configuration says so.
    Configured,
    /// bf16 is configured, but the CPU has no instructions for it.
    ConfiguredButNotAvailable,
    /// The CPU has no instructions for bf16.
    NotAvailable,
    /// Nobody has compared bf16 with f32 for this generator.
    NotCompared,
    /// Every frame compared is good enough in bf16.
    Good,
    /// A frame compared is not good enough in bf16.
    NotGood,
    /// The device has numbers of its own, fp16, and no others.
    OfDevice,
}

impl PrecisionInUse {
    /// What runs on another device than the host: whatever was asked for, its own.
    pub(crate) fn of_device() -> Self {
        Self {
            precision: Precision::F32,
            reason: PrecisionReason::OfDevice,
            verdict: None,
        }
    }

    /// What people call the numbers: `f32`, `bf16` or `f16`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.reason {
            PrecisionReason::OfDevice => "f16".to_owned(),
            _ => self.precision.to_string(),
        }
    }

    /// Decides. `has_bf16` tells whether the device multiplies bf16 numbers.
    pub(crate) fn choose(
        choice: PrecisionChoice,
        has_bf16: bool,
        verdict: Option<Verdict>,
    ) -> Self {
        use PrecisionReason::{
            Configured, ConfiguredButNotAvailable, Good, NotAvailable, NotCompared, NotGood,
        };
        let (precision, reason) = match (choice, has_bf16, &verdict) {
            (PrecisionChoice::F32, ..) => (Precision::F32, Configured),
            (PrecisionChoice::Bf16, true, _) => (Precision::Bf16, Configured),
            (PrecisionChoice::Bf16, false, _) => (Precision::F32, ConfiguredButNotAvailable),
            (PrecisionChoice::Auto, false, _) => (Precision::F32, NotAvailable),
            (PrecisionChoice::Auto, true, None) => (Precision::F32, NotCompared),
            (PrecisionChoice::Auto, true, Some(v)) if v.is_good() => (Precision::Bf16, Good),
            (PrecisionChoice::Auto, true, Some(_)) => (Precision::F32, NotGood),
        };
        Self {
            precision,
            reason,
            verdict,
        }
    }
}

impl fmt::Display for PrecisionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "as configured",
            Self::ConfiguredButNotAvailable => {
                "bf16 is configured, but this CPU has no instructions for it"
            }
            Self::NotAvailable => "this CPU has no instructions for bf16",
            Self::NotCompared => "bf16 has not been compared with f32: compare-precision does it",
            Self::Good => "the worst frame compared is good enough in bf16",
            Self::NotGood => "the worst frame compared is not good enough in bf16",
            Self::OfDevice => "the CUDA engine stores f16 and sums in f32",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_needs_the_instructions_and_a_verdict_or_an_order() {
        use Precision as P;
        use PrecisionChoice::{Auto, Bf16, F32};
        use PrecisionReason as R;
        let cases = [
            (Auto, true, Some(46.0), P::Bf16, R::Good),
            (Auto, true, Some(44.0), P::F32, R::NotGood),
            (Auto, true, None, P::F32, R::NotCompared),
            (Auto, false, Some(46.0), P::F32, R::NotAvailable),
            (F32, true, Some(46.0), P::F32, R::Configured),
            (Bf16, true, Some(44.0), P::Bf16, R::Configured),
            (Bf16, false, None, P::F32, R::ConfiguredButNotAvailable),
        ];
        for (choice, has_bf16, psnr_min_db, precision, reason) in cases {
            let in_use = PrecisionInUse::choose(choice, has_bf16, psnr_min_db.map(verdict));
            assert_eq!(
                (in_use.precision, in_use.reason),
                (precision, reason),
                "{choice:?}"
            );
        }
    }

    fn verdict(psnr_min_db: f64) -> Verdict {
        Verdict {
            generator_sha256: String::new(),
            engine: String::new(),
            kernels: String::new(),
            frames: 1,
            psnr_mean_db: 60.0,
            psnr_min_db,
            relative_l2: 0.0,
        }
    }
}
