//! In which numbers a generator runs: what was asked for, what it got, and why.

use std::fmt;

use lipsync_engine::{Int8Kind, Precision, Steps};

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
    /// int16 where this CPU is faster with it, whatever the verdict.
    Int16,
    /// int8 where this CPU is faster with it, in the steps of the verdict or, without one, in all of them.
    Int8,
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
    /// As [`Good`](Self::Good); but with the second, this CPU is faster still, and nobody has compared it.
    GoodAndFasterNotCompared(Precision, Precision),
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

    /// What people call the numbers: `f32`, `bf16`, `int16`, `int8` or `f16`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.reason {
            PrecisionReason::OfDevice => "f16".to_owned(),
            _ => self.precision.to_string(),
        }
    }

    /// Decides. `faster` are the numbers that this CPU multiplies faster than f32, the fastest first.
    pub(crate) fn choose(
        choice: PrecisionChoice,
        faster: &[Precision],
        verdict: Option<Verdict>,
    ) -> Self {
        use PrecisionReason::{Configured, ConfiguredButNotFaster, NoneFaster};
        let any_int8 = Precision::Int8(Int8Kind::Full, Steps::ALL);
        let asked = match choice {
            PrecisionChoice::Auto => None,
            PrecisionChoice::F32 => Some(Precision::F32),
            PrecisionChoice::Bf16 => Some(Precision::Bf16),
            PrecisionChoice::Int16 => Some(Precision::Int16),
            // Of the kind that suits the CPU, where one does.
            PrecisionChoice::Int8 => {
                let is_int8 = |p: &&Precision| matches!(p, Precision::Int8(..));
                Some(*faster.iter().find(is_int8).unwrap_or(&any_int8))
            }
        };
        let (precision, reason) = match asked {
            Some(asked) if asked == Precision::F32 || faster.contains(&asked) => {
                let compared = verdict.as_ref().map(|v| v.as_compared(asked));
                (compared.unwrap_or(asked), Configured)
            }
            Some(asked) => (Precision::F32, ConfiguredButNotFaster(asked)),
            None if faster.is_empty() => (Precision::F32, NoneFaster),
            None => by_verdict(faster, verdict.as_ref()),
        };
        Self {
            precision,
            reason,
            verdict,
        }
    }
}

/// The first of `faster` that was found good enough, or f32.
fn by_verdict(faster: &[Precision], verdict: Option<&Verdict>) -> (Precision, PrecisionReason) {
    use PrecisionReason::{Good, GoodAndFasterNotCompared, NotCompared, NotGood};
    let is_good = |&p: &Precision| verdict.is_some_and(|v| v.is_good(p));
    let is_unknown = |&p: &Precision| verdict.is_none_or(|v| v.figures(p).is_none());
    let (good, unknown) = (
        faster.iter().position(is_good),
        faster.iter().position(is_unknown),
    );
    let Some(good) = good else {
        let why_not = unknown.map_or(NotGood(faster[0]), |unknown| NotCompared(faster[unknown]));
        return (Precision::F32, why_not);
    };
    let compared = verdict.map_or(faster[good], |v| v.as_compared(faster[good]));
    match unknown {
        Some(unknown) if unknown < good => {
            let reason = GoodAndFasterNotCompared(faster[good], faster[unknown]);
            (compared, reason)
        }
        _ => (compared, Good(faster[good])),
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
            Self::NoneFaster => {
                f.write_str("this CPU is faster with neither bf16 nor int16 nor int8")
            }
            Self::NotCompared(fastest) => write!(
                f,
                "{fastest} has not been compared with f32: compare-precision does it"
            ),
            Self::Good(fastest) => {
                write!(f, "the worst frame compared is good enough in {fastest}")
            }
            Self::GoodAndFasterNotCompared(good, faster) => write!(
                f,
                "the worst frame compared is good enough in {good}; {faster} is faster and has not been compared: \
                 compare-precision does it"
            ),
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
    use crate::{Figures, MixedFigures};

    /// What a CPU is faster with that is fastest with these.
    fn faster(fastest: Precision) -> Vec<Precision> {
        match fastest {
            Precision::F32 => vec![],
            Precision::Int8(..) => vec![fastest, Precision::Int16],
            Precision::Bf16 | Precision::Int16 => vec![fastest],
        }
    }

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
            let in_use = PrecisionInUse::choose(choice, &faster(fastest), found.map(verdict));
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
            int8: None,
            int8_vnni: None,
            int8_bf16: None,
        }
    }

    #[test]
    fn int8_runs_in_the_steps_compared_and_int16_where_it_is_not_good() {
        use Precision as P;
        use PrecisionChoice::{Auto, Int8, Int16};
        use PrecisionReason as R;
        let any = P::Int8(Int8Kind::Narrow, Steps::ALL);
        let compared = P::Int8(Int8Kind::Narrow, Steps::of(9, [2, 4]));
        let with = |int16, int8: Option<f64>| {
            let figures = |psnr_min_db| verdict((psnr_min_db, None)).bf16;
            let int8 = int8.map(|db| MixedFigures {
                figures: figures(db),
                n_steps: 9,
                steps: vec![2, 4],
                percent_of_macs: 50,
            });
            let found = verdict((50.0, int16));
            Some(Verdict { int8, ..found })
        };
        let cases = [
            (Auto, None, P::F32, R::NotCompared(any)),
            (Auto, with(Some(60.0), Some(46.0)), compared, R::Good(any)),
            (Auto, with(None, Some(46.0)), compared, R::Good(any)),
            (
                Auto,
                with(Some(60.0), Some(44.0)),
                P::Int16,
                R::Good(P::Int16),
            ),
            (
                Auto,
                with(Some(60.0), None),
                P::Int16,
                R::GoodAndFasterNotCompared(P::Int16, any),
            ),
            (Auto, with(Some(44.0), Some(44.0)), P::F32, R::NotGood(any)),
            (
                Auto,
                with(None, Some(44.0)),
                P::F32,
                R::NotCompared(P::Int16),
            ),
            (Int8, None, any, R::Configured),
            (Int8, with(None, Some(44.0)), compared, R::Configured),
            (Int16, with(None, Some(46.0)), P::Int16, R::Configured),
        ];
        for (choice, found, precision, reason) in cases {
            let in_use = PrecisionInUse::choose(choice, &faster(any), found);
            assert_eq!(
                (in_use.precision, in_use.reason),
                (precision, reason),
                "{choice:?}"
            );
        }
    }

    /// A CPU with VNNI and instructions for bf16, and verdicts on either kind of int8.
    #[test]
    fn a_verdict_on_the_other_kind_of_int8_is_none() {
        use Precision as P;
        use PrecisionReason as R;
        let [narrow, full, _] = Int8Kind::ALL.map(|kind| P::Int8(kind, Steps::ALL));
        let compared = P::Int8(Int8Kind::Full, Steps::of(9, [2, 4]));
        let with = |bf16, int8: Option<f64>, int8_vnni: Option<f64>| {
            let mixed = |db| MixedFigures {
                figures: verdict((db, None)).bf16,
                n_steps: 9,
                steps: vec![2, 4],
                percent_of_macs: 50,
            };
            Some(Verdict {
                int8: int8.map(mixed),
                int8_vnni: int8_vnni.map(mixed),
                ..verdict((bf16, Some(60.0)))
            })
        };
        let faster = [full, P::Bf16, P::Int16];
        let cases = [
            (
                with(50.0, Some(60.0), None),
                P::Bf16,
                R::GoodAndFasterNotCompared(P::Bf16, full),
            ),
            (with(50.0, None, Some(46.0)), compared, R::Good(full)),
            (with(50.0, None, Some(44.0)), P::Bf16, R::Good(P::Bf16)),
            (with(44.0, None, Some(44.0)), P::Int16, R::Good(P::Int16)),
        ];
        for (found, precision, reason) in cases {
            let in_use = PrecisionInUse::choose(PrecisionChoice::Auto, &faster, found);
            assert_eq!((in_use.precision, in_use.reason), (precision, reason));
        }
        let asked = |faster: &[P]| PrecisionInUse::choose(PrecisionChoice::Int8, faster, None);
        assert_eq!(asked(&faster).precision, full);
        assert_eq!(asked(&[narrow]).precision, narrow);
        assert_eq!(asked(&[P::Bf16]).reason, R::ConfiguredButNotFaster(full));
    }
}
