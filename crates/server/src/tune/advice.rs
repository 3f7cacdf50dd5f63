//! What measurements mean: pure functions of figures, and the YAML that says it.

use std::{fmt, time::Duration};

use lipsync_core::ModelId;
use lipsync_engine::VisualCacheStats;
use lipsync_registry::ModelStatus;

/// A setting that does less than this part of the best is not good enough. Measurements of a few seconds differ by less.
const NEAR_BEST: f64 = 0.95;
/// A setting with which a request alone takes more than this many times the shortest time is not good enough.
const NEAR_SOONEST: f64 = 1.1;
/// A search ends when it is as near as this part of the answer.
const NEAR: f64 = 0.05;
/// Part of the machine's memory that the caches which are proposed may take, all together.
const CACHES_PART: u64 = 4;

/// A setting, and what it gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// Workers, or frames of a batch.
    pub setting: usize,
    /// What clients got.
    pub frames_per_s: f64,
    /// What a request of eight frames took while nobody else asked, where that was measured.
    pub alone: Option<Duration>,
}

/// The smallest setting that is as good as the best, and of those nearly the soonest to answer a request alone: a request
/// is cut for all workers. 1 where nothing was tried.
pub(super) fn fewest_near_best(tried: &[Tried]) -> usize {
    let best = tried.iter().map(|of| of.frames_per_s).fold(0.0, f64::max);
    let good = tried
        .iter()
        .filter(|of| of.frames_per_s >= NEAR_BEST * best);
    let soonest = good.clone().filter_map(|of| of.alone).min();
    let is_soon = |of: &&Tried| match (of.alone, soonest) {
        (Some(alone), Some(soonest)) => alone <= soonest.mul_f64(NEAR_SOONEST),
        _ => true,
    };
    good.filter(is_soon).map(|of| of.setting).min().unwrap_or(1)
}

/// Sizes of caches for the models that were measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caches {
    /// For network results of all background frames, as far as there is memory.
    pub visual_bytes: u64,
    /// What all of them would take.
    pub visual_bytes_of_all: u64,
    /// For coded background frames of all models, as far as there is memory.
    pub frame_bytes: u64,
    /// What all of them would take.
    pub frame_bytes_of_all: u64,
    /// Frames of the longest avatar, as far as there is memory for as many of each, and at least 50.
    pub n_frames: u64,
}

/// By what was in the caches after some use; `None` where nothing was.
pub(super) fn suggested_caches(
    models: &[ModelStatus],
    visual: VisualCacheStats,
    memory_bytes: u64,
) -> Option<Caches> {
    let n_frames = |model: &ModelStatus| model.info.map_or(0, |info| u64::from(info.n_frames));
    let all: u64 = models.iter().map(n_frames).sum();
    let longest = models.iter().map(n_frames).max()?;
    let frame_bytes_of_all = models.iter().map(|model| {
        let cache = model.background_cache.as_ref()?;
        let held = u64::try_from(cache.resident_frames).ok()?;
        Some(cache.resident_bytes.checked_div(held)? * n_frames(model))
    });
    let frame_bytes_of_all: u64 = frame_bytes_of_all.flatten().sum();
    let of_entry = visual.resident_bytes.checked_div(visual.resident_frames);
    let visual_bytes_of_all = of_entry.unwrap_or(0) * all;
    // Coded frames first: without one, a file is read and coded anew.
    let room = memory_bytes / CACHES_PART;
    let frame_bytes = frame_bytes_of_all.min(room / 2);
    let visual_bytes = visual_bytes_of_all.min(room - frame_bytes);
    let fitting = u128::from(longest) * u128::from(frame_bytes);
    let n_frames = fitting / u128::from(frame_bytes_of_all.max(1));
    (frame_bytes_of_all + visual_bytes_of_all > 0).then_some(Caches {
        visual_bytes,
        visual_bytes_of_all,
        frame_bytes,
        frame_bytes_of_all,
        n_frames: u64::try_from(n_frames).unwrap_or(longest).max(50),
    })
}

/// A search for the most conversations: from an estimate up or down in steps of a quarter until a good and a bad
/// number are known, then into the middle.
#[derive(Debug)]
pub(super) struct Search {
    next: u64,
    good: Option<(u64, Duration)>,
    bad: Option<(u64, Duration)>,
}

/// How many conversations there may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// The most that were good, with the 95th percentile then; `None`: not even one was, or there was no time.
    pub good: Option<(u64, Duration)>,
    /// The fewest that were too many.
    pub bad: Option<(u64, Duration)>,
}

impl Search {
    /// Begins where the figures of full load say.
    pub(super) fn from(estimate: u64) -> Self {
        Self {
            // With all workers busy all the time, nobody is answered in time.
            next: (estimate * 3 / 4).max(1),
            good: None,
            bad: None,
        }
    }

    /// The next number to try; `None`: the answer is known.
    pub(super) fn next(&self) -> Option<u64> {
        (self.next > 0).then_some(self.next)
    }

    pub(super) fn note(&mut self, n_users: u64, is_good: bool, p95: Duration) {
        match is_good {
            true => self.good = Some((n_users, p95)),
            false => self.bad = Some((n_users, p95)),
        }
        self.next = match (self.good, self.bad) {
            (Some((good, _)), None) => good + (good / 4).max(1),
            (None, Some((bad, _))) => bad * 3 / 4,
            (Some((good, _)), Some((bad, _))) => {
                let is_near = bad.saturating_sub(good) as f64 <= (good as f64 * NEAR).max(1.0);
                if is_near { 0 } else { good.midpoint(bad) }
            }
            (None, None) => 0,
        };
    }

    pub(super) fn found(&self) -> Capacity {
        let (good, bad) = (self.good, self.bad);
        Capacity { good, bad }
    }
}

/// What was found. Its text is YAML to paste, with its reasons.
#[derive(Debug)]
pub struct Findings {
    /// What runs the networks.
    pub device: String,
    /// Cores of the machine.
    pub n_cores: usize,
    /// Whether that is the CPU.
    pub is_cpu: bool,
    /// Models that were measured.
    pub models: Vec<ModelId>,
    /// Models that are configured.
    pub n_configured: usize,
    /// Models that could not be loaded, and why.
    pub broken: Vec<(ModelId, String)>,
    /// Numbers of workers, ascending.
    pub workers: Vec<Tried>,
    /// The best one.
    pub n_workers: usize,
    /// Sizes of batches, ascending; none where batches are not shared.
    pub batches: Vec<Tried>,
    /// Sizes of caches; `None`: nothing is kept.
    pub caches: Option<Caches>,
    /// Frames a second with the visual cache that is proposed, and without any.
    pub frames_per_s: (f64, f64),
    /// Conversations.
    pub capacity: Capacity,
    /// What it took.
    pub took: Duration,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        writeln!(f, "server:")?;
        writeln!(
            f,
            "  # Frames a second by workers, and ms that a request of 8 frames takes alone: {}.",
            list(&self.workers)
        )?;
        writeln!(
            f,
            "  # The fewest that do at least {:.0} % of the most, and answer a request alone about as soon. {}",
            NEAR_BEST * 100.0,
            match self.is_cpu {
                true => format!("This machine has {} cores.", self.n_cores),
                false => "Each takes memory of the GPU.".to_owned(),
            }
        )?;
        writeln!(f, "  worker_count: {}", self.n_workers)?;
        self.engine(f)?;
        self.caches(f)
    }
}

impl Findings {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.models.iter().map(ModelId::as_str).collect();
        writeln!(
            f,
            "# Measured by lipsync-server tune {} in {:.0} s, on {} ({} cores).",
            env!("CARGO_PKG_VERSION"),
            self.took.as_secs_f64(),
            self.device,
            self.n_cores
        )?;
        writeln!(
            f,
            "# Models: {} (of {} configured).",
            ids.join(", "),
            self.n_configured
        )?;
        for (id, _) in &self.broken {
            writeln!(f, "# Model {id} could not be loaded, and was not measured.")?;
        }
        let users = ids.join(" --model ");
        match self.capacity {
            Capacity {
                good: Some((n, p95)),
                bad,
            } => {
                let ms = p95.as_secs_f64() * 1e3;
                writeln!(
                    f,
                    "# Capacity: {n} conversations at once, with 95 % of answers within {ms:.0} ms (goal: 200 ms)."
                )?;
                match bad {
                    Some((n, p95)) => {
                        writeln!(f, "# With {n} it was {:.0} ms.", p95.as_secs_f64() * 1e3)?
                    }
                    None => writeln!(
                        f,
                        "# There was no time to try more: with --minutes there would be."
                    )?,
                }
                writeln!(f, "# To confirm it against a server with these settings:")?;
                writeln!(
                    f,
                    "#   lipsync-load-test --model {users} --profile conversational --find-max-users --first-users {}",
                    (n / 2).max(1)
                )
            }
            Capacity {
                bad: Some((n, p95)),
                ..
            } => writeln!(
                f,
                "# Capacity: none. With {n} conversations 95 % of answers took up to {:.0} ms, and 200 ms are the goal.",
                p95.as_secs_f64() * 1e3
            ),
            Capacity { .. } => writeln!(
                f,
                "# Capacity: not measured, there was no time: more --minutes are needed."
            ),
        }
    }

    fn engine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "engine:")?;
        if self.batches.is_empty() {
            writeln!(
                f,
                "  # The CPU runs the frames of a batch one by one: a smaller one gains nothing."
            )?;
            writeln!(f, "  max_batch: 64")?;
        } else {
            writeln!(
                f,
                "  # Frames a second by the frames of a batch: {}.",
                list(&self.batches)
            )?;
            writeln!(f, "  max_batch: {}", fewest_near_best(&self.batches))?;
        }
        let Some(caches) = self.caches else {
            return Ok(());
        };
        let (with, without) = self.frames_per_s;
        writeln!(
            f,
            "  # {with:.0} frames/s with it and {without:.0} without. Results of all background frames take {} MiB.",
            mebibytes(caches.visual_bytes_of_all)
        )?;
        if caches.visual_bytes < caches.visual_bytes_of_all {
            writeln!(
                f,
                "  # Not all of it: all caches together may take a quarter of the memory."
            )?;
        }
        writeln!(f, "  visual_cache_mb: {}", mebibytes(caches.visual_bytes))
    }

    fn caches(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(caches) = self.caches else {
            return Ok(());
        };
        writeln!(f, "capacity:")?;
        writeln!(
            f,
            "  # Coded background frames of all models take {} MiB; frames that are not in memory are read.",
            mebibytes(caches.frame_bytes_of_all)
        )?;
        let gib = (caches.frame_bytes as f64 / (1_u64 << 30) as f64 * 100.0).ceil() / 100.0;
        writeln!(f, "  max_host_memory_gb: {:.2}", gib.max(0.1))?;
        writeln!(f, "  background_cache_frames: {}", caches.n_frames)
    }
}

fn mebibytes(n_bytes: u64) -> u64 {
    n_bytes.div_ceil(1 << 20)
}

fn list(tried: &[Tried]) -> String {
    let tried = tried.iter();
    let each: Vec<_> = tried
        .map(|of| {
            let alone = of.alone.map(|alone| format!(" ({})", alone.as_millis()));
            let alone = alone.unwrap_or_default();
            format!("{}: {:.0}{alone}", of.setting, of.frames_per_s)
        })
        .collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tried(figures: &[(usize, f64)]) -> Vec<Tried> {
        let tried = figures.iter().map(|&(setting, frames_per_s)| Tried {
            setting,
            frames_per_s,
            alone: None,
        });
        tried.collect()
    }

    #[test]
    fn the_fewest_that_are_nearly_as_good_as_the_best_are_chosen() {
        for (figures, best) in [
            (&[(1, 100.0), (2, 190.0), (3, 250.0), (4, 252.0)][..], 3),
            (&[(1, 100.0), (2, 101.0)], 1),
            (&[(1, 100.0), (2, 80.0)], 1),
            (&[], 1),
        ] {
            assert_eq!(fewest_near_best(&tried(figures)), best);
        }
        // Two that share a core do no more, but a request is done sooner.
        let with_times = |figures: &[(usize, f64, u64)]| -> Vec<Tried> {
            let of = |&(setting, frames_per_s, ms)| Tried {
                setting,
                frames_per_s,
                alone: Some(Duration::from_millis(ms)),
            };
            figures.iter().map(of).collect()
        };
        let shared = [(1, 40.0, 200), (2, 39.0, 120), (3, 40.0, 118)];
        assert_eq!(fewest_near_best(&with_times(&shared)), 2);
        let worse = [(1, 40.0, 200), (2, 30.0, 120)];
        assert_eq!(fewest_near_best(&with_times(&worse)), 1);
        assert_eq!(list(&with_times(&worse)), "1: 40 (200), 2: 30 (120)");
    }

    #[test]
    fn the_search_finds_the_capacity_from_any_estimate() {
        for capacity in [0_u64, 1, 2, 7, 30, 100, 1000] {
            for estimate in [1, 10, 40, 200, 2000] {
                let mut search = Search::from(estimate);
                let mut n_probes = 0;
                while let Some(n) = search.next() {
                    search.note(n, n <= capacity, Duration::from_millis(n));
                    n_probes += 1;
                    assert!(n_probes < 60);
                }
                let good = search.found().good.map_or(0, |(n, _)| n);
                assert!(good <= capacity);
                let near = capacity - good <= (capacity / 20).max(1) && (capacity == 0 || good > 0);
                assert!(near, "{good} of {capacity} from {estimate}");
            }
        }
        let mut search = Search::from(100);
        for n in [75, 93, 84, 88, 90] {
            assert_eq!(search.next(), Some(n));
            search.note(n, n <= 86, Duration::ZERO);
            if n == 88 {
                break;
            }
        }
        assert_eq!(search.next(), None, "within five percent");
    }

    #[test]
    fn the_text_is_a_configuration_with_its_reasons() {
        let caches = Caches {
            visual_bytes: 100 << 20,
            visual_bytes_of_all: 200 << 20,
            frame_bytes: 40 << 20,
            frame_bytes_of_all: 40 << 20,
            n_frames: 200,
        };
        let mut findings = Findings {
            device: "cpu (avx2)".to_owned(),
            n_cores: 4,
            is_cpu: true,
            models: vec![ModelId::new("mira").unwrap()],
            n_configured: 2,
            broken: vec![(ModelId::new("tomo").unwrap(), "/secret/path".to_owned())],
            workers: tried(&[(1, 50.4), (2, 99.0), (4, 98.0)]),
            n_workers: 2,
            batches: Vec::new(),
            caches: Some(caches),
            frames_per_s: (99.0, 70.0),
            capacity: Capacity {
                good: Some((12, Duration::from_millis(180))),
                bad: Some((13, Duration::from_millis(260))),
            },
            took: Duration::from_secs(100),
        };
        let text = findings.to_string();
        for words in [
            "# Capacity: 12 conversations at once, with 95 % of answers within 180 ms",
            "by workers, and ms that a request of 8 frames takes alone: 1: 50, 2: 99, 4: 98.",
            "--model mira --profile conversational --find-max-users --first-users 6",
            "# Model tomo could not be loaded",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(!text.contains("secret"));
        let config = crate::Config::parse(&text, Path::new("c"), []).unwrap();
        assert_eq!(config.server.workers.max(), 2);
        assert_eq!(config.engine.visual_cache_bytes, 100 << 20);
        assert_eq!(config.registry.background_cache_frames, 200);
        findings.is_cpu = false;
        findings.batches = tried(&[(8, 100.0), (16, 160.0), (32, 161.0)]);
        findings.capacity = Capacity {
            good: None,
            bad: None,
        };
        let text = findings.to_string();
        assert!(
            text.contains("max_batch: 16") && text.contains("not measured"),
            "{text}"
        );
        assert!(crate::Config::parse(&text, Path::new("c"), []).is_ok());
    }

    #[test]
    fn caches_hold_everything_if_a_quarter_of_the_memory_is_enough() {
        let visual = VisualCacheStats {
            resident_bytes: 50 << 20,
            resident_frames: 10,
            ..VisualCacheStats::default()
        };
        assert_eq!(suggested_caches(&[], visual, 1 << 34), None);
    }
}
