//! In which numbers a generator runs: what was asked for, what it got, and why.

use std::fmt;

use lipsync_engine::Precision;

use crate::Verdict;

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// The numbers that this CPU multiplies faster than f32, where there are such and a good [`Verdict`]
    /// about the generator is there; f32 otherwise.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16 where the CPU has the instructions, whatever the verdict.
    Bf16,
    /// int16 where that is the fastest on this CPU, whatever the verdict.
    Int16,
}

/// The numbers that a model's generator runs in.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionInUse {
    /// Which, on the host; see [`name`](Self::name).
    pub precision: Precision,
    /// Why.
    pub reason: PrecisionReason,
    /// What a comparison of the generator's frames in other numbers and f32 found, if there was one.
    pub verdict: Option<Verdict>,
}

/// Why a generator runs in the numbers that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrecisionReason {
    /// The configuration says so.
    Configured,
    /// These are configured, but this CPU is no faster with them.
    ConfiguredButNotFaster(Precision),
    /// This CPU is faster with none but f32.
    NoneFaster,
    /// Nobody has compared these, with which this CPU is faster, with f32 for this generator.
    NotCompared(Precision),
    /// Every frame compared is good enough.
    Good(Precision),
    /// A frame compared is not good enough.
    NotGood(Precision),
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

    /// What people call the numbers: `f32`, `bf16`, `int16` or `f16`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.reason {
            PrecisionReason::OfDevice => "f16".to_owned(),
            _ => self.precision.to_string(),
        }
    }

    /// Decides. `fastest` are the numbers that this CPU multiplies fastest, f32 where no others are faster.
    pub(crate) fn choose(
        choice: PrecisionChoice,
        fastest: Precision,
        verdict: Option<Verdict>,
    ) -> Self {
        use PrecisionReason::{
            Configured, ConfiguredButNotFaster, Good, NoneFaster, NotCompared, NotGood,
        };
        let asked = match choice {
            PrecisionChoice::Auto => None,
            PrecisionChoice::F32 => Some(Precision::F32),
            PrecisionChoice::Bf16 => Some(Precision::Bf16),
            PrecisionChoice::Int16 => Some(Precision::Int16),
        };
        let figures = verdict.as_ref().and_then(|v| v.figures(fastest));
        let (precision, reason) = match (asked, figures) {
            (Some(asked), _) if asked == Precision::F32 || asked == fastest => (asked, Configured),
            (Some(asked), _) => (Precision::F32, ConfiguredButNotFaster(asked)),
            (None, _) if fastest == Precision::F32 => (Precision::F32, NoneFaster),
            (None, None) => (Precision::F32, NotCompared(fastest)),
            (None, Some(figures)) if figures.is_good() => (fastest, Good(fastest)),
            (None, Some(_)) => (Precision::F32, NotGood(fastest)),
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
        match self {
            Self::Configured => f.write_str("as configured"),
            Self::ConfiguredButNotFaster(asked) => {
                write!(
                    f,
                    "{asked} is configured, but this CPU is no faster with it"
                )
            }
            Self::NoneFaster => f.write_str("this CPU is faster with neither bf16 nor int16"),
            Self::NotCompared(fastest) => write!(
                f,
                "{fastest} has not been compared with f32: compare-precision does it"
            ),
            Self::Good(fastest) => {
                write!(f, "the worst frame compared is good enough in {fastest}")
            }
            Self::NotGood(fastest) => {
                write!(
                    f,
                    "the worst frame compared is not good enough in {fastest}"
                )
            }
            Self::OfDevice => f.write_str("the CUDA engine stores f16 and sums in f32"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Figures;

    #[test]
    fn other_numbers_need_a_cpu_that_is_faster_with_them_and_a_verdict_or_an_order() {
        use Precision as P;
        use PrecisionChoice::{Auto, Bf16, F32, Int16};
        use PrecisionReason as R;
        let good = Some((46.0, None));
        let bad = Some((44.0, None));
        let cases = [
            (Auto, P::Bf16, good, P::Bf16, R::Good(P::Bf16)),
            (Auto, P::Bf16, bad, P::F32, R::NotGood(P::Bf16)),
            (Auto, P::Bf16, None, P::F32, R::NotCompared(P::Bf16)),
            (Auto, P::F32, good, P::F32, R::NoneFaster),
            (Auto, P::Int16, good, P::F32, R::NotCompared(P::Int16)),
            (
                Auto,
                P::Int16,
                Some((40.0, Some(60.0))),
                P::Int16,
                R::Good(P::Int16),
            ),
            (
                Auto,
                P::Int16,
                Some((46.0, Some(44.0))),
                P::F32,
                R::NotGood(P::Int16),
            ),
            (F32, P::Bf16, good, P::F32, R::Configured),
            (Bf16, P::Bf16, bad, P::Bf16, R::Configured),
            (
                Bf16,
                P::Int16,
                None,
                P::F32,
                R::ConfiguredButNotFaster(P::Bf16),
            ),
            (Int16, P::Int16, None, P::Int16, R::Configured),
            (
                Int16,
                P::F32,
                None,
                P::F32,
                R::ConfiguredButNotFaster(P::Int16),
            ),
        ];
        for (choice, fastest, found, precision, reason) in cases {
            let in_use = PrecisionInUse::choose(choice, fastest, found.map(verdict));
            assert_eq!(
                (in_use.precision, in_use.reason),
                (precision, reason),
                "{choice:?} where {fastest} is the fastest"
            );
        }
    }

    fn verdict((bf16, int16): (f64, Option<f64>)) -> Verdict {
        let figures = |psnr_min_db| Figures {
            frames: 1,
            psnr_mean_db: 60.0,
            psnr_min_db,
            relative_l2: 0.0,
        };
        Verdict {
            generator_sha256: String::new(),
            engine: String::new(),
            kernels: String::new(),
            bf16: figures(bf16),
            int16: int16.map(figures),
        }
    }
}
