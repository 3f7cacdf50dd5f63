//! Which steps of a generator's plan can run in int8: as many multiplications as the frames allow.
//!
//! One step alone says how much noise it adds, and noise of different steps adds up about as independent errors
//! do. So the steps are sorted by the noise that each costs for what it saves, and the longest run of the cheapest
//! is taken with which the frames are still good. What counts is the comparison of that run as a whole.

use lipsync_engine::{Int8Kind, LoadOptions, Precision, Steps, inspect_plan, load_generator};
use lipsync_registry::Verdict;
use lipsync_server::comparison::{Comparison, Reference};

/// Frames by which single steps are sorted.
const N_PROBES: usize = 4;

/// What was found for a set of steps.
#[derive(Debug)]
pub struct Int8Steps {
    /// Those in int8, by their numbers in the plan.
    pub steps: Vec<usize>,
    /// Steps of the plan.
    pub n_steps: usize,
    /// How much of a frame's multiplications they are.
    pub percent_of_macs: u64,
    /// How far their frames are from those in f32.
    pub found: Comparison,
}

/// A step that int8 could take.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    step: usize,
    /// Multiplications that int8 would take over.
    macs: u64,
    /// Mean squared error of the bytes, with this step alone in int8.
    noise: f64,
}

/// Chooses among the steps of the generator file `onnx`, for int8 of one kind. Blocks for as long as that takes: a comparison over all
/// frames or, where int8 everywhere is not good enough, about two frames for each step and as many comparisons as
/// the number of steps has bits.
///
/// # Errors
/// What the engine finds wrong with the file, or a generator reports.
pub fn choose(
    onnx: &[u8],
    kind: Int8Kind,
    options: &LoadOptions,
    reference: &Reference,
) -> anyhow::Result<Int8Steps> {
    let search = Search {
        onnx,
        kind,
        options,
        reference,
        n_steps: 0,
    };
    search.run()
}

struct Search<'a> {
    onnx: &'a [u8],
    kind: Int8Kind,
    options: &'a LoadOptions,
    reference: &'a Reference,
    n_steps: usize,
}

impl Search<'_> {
    fn run(mut self) -> anyhow::Result<Int8Steps> {
        let plan = inspect_plan(self.onnx, self.with(Steps::ALL))?;
        self.n_steps = plan.steps.len();
        let all = plan.steps.iter().enumerate();
        let all = all.filter(|(step, found)| found.int8_macs > 0 && *step < Steps::MAX);
        let mut candidates: Vec<Candidate> = all
            .map(|(step, found)| Candidate {
                step,
                macs: found.int8_macs,
                noise: 0.0,
            })
            .collect();
        let mut best = (candidates.len(), self.compare(&candidates, usize::MAX)?);
        if !is_good(&best.1) {
            for candidate in &mut candidates {
                let found = self.compare(&[*candidate], N_PROBES)?;
                candidate.noise = noise(&found);
            }
            cheapest_first(&mut candidates);
            best = self.longest_good(&candidates)?;
        }
        let (n_taken, found) = best;
        let taken = &candidates[..n_taken];
        let macs: u64 = taken.iter().map(|candidate| candidate.macs).sum();
        let mut steps: Vec<usize> = taken.iter().map(|candidate| candidate.step).collect();
        steps.sort_unstable();
        Ok(Int8Steps {
            steps,
            n_steps: self.n_steps,
            percent_of_macs: 100 * macs / plan.macs().max(1),
            found,
        })
    }

    /// How many of the first candidates can be taken, and what their frames are like. As good as any bisection where
    /// more steps are worse than fewer; where they are not, still a run that is good.
    fn longest_good(&self, candidates: &[Candidate]) -> anyhow::Result<(usize, Comparison)> {
        let mut good = (0, self.compare(&[], usize::MAX)?);
        let mut bad = candidates.len();
        while bad - good.0 > 1 {
            let middle = usize::midpoint(good.0, bad);
            let found = self.compare(&candidates[..middle], usize::MAX)?;
            if is_good(&found) {
                good = (middle, found);
            } else {
                bad = middle;
            }
        }
        Ok(good)
    }

    fn compare(&self, taken: &[Candidate], n_frames: usize) -> anyhow::Result<Comparison> {
        let steps = Steps::of(self.n_steps, taken.iter().map(|candidate| candidate.step));
        let other = load_generator(self.onnx, self.with(steps))?;
        Ok(self.reference.compare(&*other, n_frames)?)
    }

    fn with(&self, steps: Steps) -> LoadOptions {
        LoadOptions {
            precision: Precision::Int8(self.kind, steps),
            ..self.options.clone()
        }
    }
}

fn is_good(found: &Comparison) -> bool {
    found.psnr_min_db() >= Verdict::REQUIRED_DB && found.psnr_mean_db() >= Verdict::REQUIRED_MEAN_DB
}

/// Mean squared error of the bytes, up to a factor.
fn noise(found: &Comparison) -> f64 {
    let errors = found.psnr_db.iter().map(|db| 10f64.powf(-db / 10.0));
    errors.sum::<f64>()
}

/// Sorts by noise for each multiplication that int8 takes over.
#[expect(clippy::cast_precision_loss, reason = "a price may be rounded")]
fn cheapest_first(candidates: &mut [Candidate]) {
    let price = |candidate: &Candidate| candidate.noise / candidate.macs as f64;
    candidates.sort_by(|a, b| price(a).total_cmp(&price(b)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_as_cheap_as_it_is_quiet_and_large() {
        let candidate = |step, macs, noise| Candidate { step, macs, noise };
        let mut all = [
            candidate(0, 100, 4.0),
            candidate(1, 100, 1.0),
            candidate(2, 1_000, 5.0),
        ];
        cheapest_first(&mut all);
        assert_eq!(all.map(|candidate| candidate.step), [2, 1, 0]);
    }
}
