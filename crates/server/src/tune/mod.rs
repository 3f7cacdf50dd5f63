//! `lipsync-server tune`: what this machine does with the configured models.
//!
//! A [`Tuner`] starts servers of its own on a port of the loopback, asks them as clients would, and finds the best
//! number of workers, the batch, the sizes of caches, and how many conversations the machine carries. Nothing is
//! changed. `load` is the clients, `advice` what the figures mean, as YAML.

mod advice;
mod load;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use lipsync::client::{Client, ConnectError, ConnectOptions};
use lipsync_core::ModelId;
use lipsync_engine::{Device, cuda::Cuda};
use lipsync_registry::ModelStatus;
use lipsync_worker_pool::PoolError;

use crate::{
    Config, EngineLoader, RunningServer, Server, StartError, adapt,
    config::{ConfigError, WorkerCount, n_cores},
    telemetry::MemoryFigures,
    tenants::Tenants,
};

pub use advice::{Caches, Capacity, Findings, Tried};
use advice::{fewest_near_best, suggested_caches};
use load::{Asked, Crowd, Spoken};

/// The 95th percentile of the time of an answer that conversations may have.
pub const GOAL: Duration = Duration::from_millis(200);
/// Connections that users share; each carries a hundred calls at once.
const N_CONNECTIONS: usize = 8;
/// Models that are measured; more are alike.
const MAX_MODELS: usize = 8;
/// The most workers that are tried on GPUs.
const MAX_ON_GPUS: usize = 8;
/// Sizes of batches that are tried where batches are shared.
const BATCHES: [usize; 4] = [8, 16, 32, 64];
/// Part of the time that is for the numbers of workers and the batches.
const FIRST_PART: f64 = 0.4;
/// What one number of workers is measured for in one round, at least and at most.
const ONE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// Before that, for what was under way to end; and what a request alone is measured for.
const SETTLING: Duration = Duration::from_secs(1);
/// Rounds over all numbers of workers, up and down, where there is time: the best of each counts, because what else goes
/// on in a machine only takes speed.
const MAX_ROUNDS: u32 = 3;
/// Part of the time for caches to fill, each time, and how long that takes at most.
const FILLING: (f64, Duration) = (0.1, Duration::from_secs(40));
/// Caches are full when they gain less than this part in a second.
const FULL: f64 = 0.01;

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A server that has started cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The configuration has no models.
    #[error("there are no models in the configuration, so there is nothing to measure")]
    NoModels,
    /// No model can be loaded.
    #[error(
        "no model can be loaded, so there is nothing to measure: {}",
        reasons(broken)
    )]
    NoneLoads {
        /// Each, with what is wrong.
        broken: Vec<(ModelId, String)>,
    },
    /// No request was answered.
    #[error("no request was answered: {0}")]
    Unanswered(String),
    /// The number of workers cannot be changed.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A task has panicked.
    #[error(transparent)]
    Panicked(#[from] tokio::task::JoinError),
}

/// Measures a configuration on this machine.
pub struct Tuner<'a> {
    /// The configuration.
    pub file: PathBuf,
    /// Where networks run; none: on the CPU.
    pub cudas: Vec<Arc<Cuda>>,
    /// How long it may take, about.
    pub limit: Duration,
    /// Is told what goes on.
    pub progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// A server that is measured.
struct Bench {
    running: RunningServer,
    clients: Vec<Client>,
    models: Vec<ModelStatus>,
    /// How far each model was asked for.
    walks: Vec<Arc<AtomicU64>>,
}

impl Tuner<'_> {
    /// Measures.
    ///
    /// # Errors
    /// See [`TuneError`].
    pub async fn run(&self) -> Result<Findings, TuneError> {
        let begun = Instant::now();
        let config = Config::load(&self.file)?;
        if config.registry.models.is_empty() {
            return Err(TuneError::NoModels);
        }
        let mut broken = Vec::new();
        let candidates = self.candidates();
        let most = candidates.iter().copied().max().unwrap_or(1);
        (self.progress)("loading the models");
        // Whatever is configured: what an entry takes is to be seen.
        let visual_bytes = Some(memory_bytes() / 8);
        let first = self.start(most, visual_bytes, &mut broken).await?;
        let filling = self.limit.mul_f64(FILLING.0).min(FILLING.1);
        first.fill(most, filling).await?;
        let (one, n_rounds) = self.rounds(candidates.len());
        let tried = first
            .try_workers(&candidates, (one, n_rounds), self.progress)
            .await?;
        let n_workers = fewest_near_best(&tried);
        let caches = suggested_caches(&first.models(), first.visual_cache(), memory_bytes());
        first.running.shut_down().await;

        (self.progress)("filling caches");
        let visual_bytes = caches.as_ref().map(|caches| caches.visual_bytes);
        let bench = self.start(n_workers, visual_bytes, &mut Vec::new()).await?;
        bench.fill(n_workers, filling).await?;
        let with_cache = bench.saturate(n_workers, one).await?;
        let batches = bench.try_batches(one, self.progress).await?;
        bench.running.shared().registry.limit_caches(0);
        bench.saturate(n_workers, SETTLING).await?;
        let without_cache = bench.saturate(n_workers, one).await?;
        bench.running.shared().registry.limit_caches(100);
        bench.fill(n_workers, filling).await?;
        let deadline = begun + self.limit;
        let capacity = bench
            .find_capacity(with_cache, deadline, self.progress)
            .await;
        let findings = Findings {
            device: bench.running.shared().device.clone(),
            n_cores: n_cores(),
            is_cpu: self.cudas.is_empty(),
            models: bench.models.iter().map(|model| model.id.clone()).collect(),
            n_configured: config.registry.models.len(),
            broken,
            workers: tried,
            n_workers,
            batches,
            caches,
            frames_per_s: (with_cache, without_cache),
            capacity,
            took: begun.elapsed(),
        };
        bench.running.shut_down().await;
        Ok(findings)
    }

    /// How long a number of workers is measured, how often.
    fn rounds(&self, n_candidates: usize) -> (Duration, u32) {
        let of_each = self.limit.mul_f64(FIRST_PART) / u32::try_from(n_candidates).unwrap_or(1);
        let rest = 2 * SETTLING;
        let fit = of_each.as_secs_f64() / (rest + ONE.1).as_secs_f64();
        let n_rounds = (1..=MAX_ROUNDS).rev().find(|&n| f64::from(n) <= fit);
        let n_rounds = n_rounds.unwrap_or(1);
        let one = (of_each / n_rounds).saturating_sub(rest);
        (one.clamp(ONE.0, ONE.1), n_rounds)
    }

    fn candidates(&self) -> Vec<usize> {
        let most = match self.cudas.is_empty() {
            true => n_cores().min(256),
            false => MAX_ON_GPUS.max(self.cudas.len()),
        };
        if most <= 8 {
            return (1..=most).collect();
        }
        // Where cores are many, steps of a quarter are fine enough.
        let mut all = vec![1, 2, 4];
        while let Some(&last) = all.last().filter(|&&last| last < most) {
            all.push((last + last.div_ceil(4)).min(most));
        }
        all
    }

    /// Starts a server with this many workers, and loads its models. Those that cannot be are named in `broken`.
    async fn start(
        &self,
        n_workers: usize,
        visual_bytes: Option<u64>,
        broken: &mut Vec<(ModelId, String)>,
    ) -> Result<Bench, TuneError> {
        let mut config = Config::load(&self.file)?;
        config.server.address = ([127, 0, 0, 1], 0).into();
        config.server.workers = WorkerCount::Fixed(n_workers);
        config.server.peer_share_percent = 100;
        (config.tls, config.operations) = (None, None);
        config.tenants = Arc::new(Tenants::default());
        (config.adapt.watch, config.adapt.predict) = (None, false);
        config.registry.bake = false;
        for model in &mut config.registry.models {
            model.preload = false;
        }
        config.strict = false;
        if let Some(bytes) = visual_bytes {
            config.engine.visual_cache_bytes = bytes;
        }
        let loader = EngineLoader::choose(&config, self.cudas.clone())?;
        let running = Server::bind(config, loader).await?.start().await?;
        let address = running.address().to_string();
        let mut clients = Vec::new();
        for _ in 0..N_CONNECTIONS {
            clients.push(ConnectOptions::new().connect(&address).await?);
        }
        let models = load_models(&running, broken).await;
        let bench = Bench {
            walks: models.iter().map(|_| Arc::default()).collect(),
            models,
            clients,
            running,
        };
        if bench.models.is_empty() {
            bench.running.shut_down().await;
            let broken = std::mem::take(broken);
            return Err(TuneError::NoneLoads { broken });
        }
        Ok(bench)
    }
}

/// Loads the first models that can be, and says what is wrong with the others.
async fn load_models(
    running: &RunningServer,
    broken: &mut Vec<(ModelId, String)>,
) -> Vec<ModelStatus> {
    let registry = &running.shared().registry;
    let mut loaded = Vec::new();
    for status in registry.list() {
        if loaded.len() >= MAX_MODELS {
            break;
        }
        match registry.load(&status.id).await {
            Ok(_) => loaded.extend(registry.status(&status.id)),
            Err(error) => broken.push((status.id, error.detail())),
        }
    }
    loaded
}

impl Bench {
    fn crowd(&self) -> Crowd {
        let models = self.models.iter().zip(&self.walks);
        Crowd {
            clients: self.clients.clone(),
            models: models
                .map(|(model, walk)| Asked {
                    id: model.id.to_string(),
                    fps: model.info.map_or(25, |info| info.fps.get()),
                    walk: Arc::clone(walk),
                })
                .collect(),
        }
    }

    /// The models as they are now.
    fn models(&self) -> Vec<ModelStatus> {
        let registry = &self.running.shared().registry;
        let models = self.models.iter();
        models
            .flat_map(|model| registry.status(&model.id))
            .collect()
    }

    fn visual_cache(&self) -> lipsync_engine::VisualCacheStats {
        self.running.shared().registry.visual_cache()
    }

    /// Frames a second with as many requests as workers can do.
    async fn saturate(&self, n_workers: usize, time: Duration) -> Result<f64, TuneError> {
        let said = self.crowd().saturate(2 * n_workers + 2, time).await;
        match said.frames_per_s {
            rate if rate > 0.0 => Ok(rate),
            _ => Err(TuneError::Unanswered(said.failure.unwrap_or_default())),
        }
    }

    /// Asks until caches hold what they will, or the time is over.
    async fn fill(&self, n_workers: usize, longest: Duration) -> Result<(), TuneError> {
        let end = Instant::now() + longest;
        let n_held = || self.visual_cache().resident_frames as f64;
        loop {
            let before = n_held();
            self.saturate(n_workers, SETTLING).await?;
            if n_held() <= before * (1.0 + FULL) || Instant::now() >= end {
                return Ok(());
            }
        }
    }

    /// Measures each number of workers in rounds, of which the best counts.
    async fn try_workers(
        &self,
        candidates: &[usize],
        (time, n_rounds): (Duration, u32),
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Vec<Tried>, TuneError> {
        let none = |&setting: &usize| Tried {
            setting,
            frames_per_s: 0.0,
            alone: None,
        };
        let mut tried: Vec<Tried> = candidates.iter().map(none).collect();
        for round in 0..n_rounds {
            // From the most, which are there, down, and up again.
            let n = tried.len();
            for step in 0..n {
                let place = if round % 2 == 0 { n - 1 - step } else { step };
                let of = &mut tried[place];
                progress(&format!("{} workers", of.setting));
                self.have_workers(of.setting).await?;
                self.saturate(of.setting, SETTLING).await?;
                let frames_per_s = self.saturate(of.setting, time).await?;
                of.frames_per_s = of.frames_per_s.max(frames_per_s);
                let alone = self.crowd().saturate(1, SETTLING).await.median;
                of.alone = of.alone.into_iter().chain(alone).min();
            }
        }
        Ok(tried)
    }

    /// Has workers join or leave until there are as many as this.
    async fn have_workers(&self, n_workers: usize) -> Result<(), TuneError> {
        let pool = &self.running.shared().pipeline.workers;
        let mut devices: Vec<_> = pool.stats().workers.iter().map(|of| of.device).collect();
        devices.sort_unstable();
        devices.dedup();
        let changing = Arc::clone(pool);
        let changed = tokio::task::spawn_blocking(move || {
            adapt::have_workers(&changing, &devices, n_workers)
        });
        changed.await??;
        // They finish a batch first.
        while pool.stats().n_workers() > n_workers {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// What batches of several sizes give, where jobs share them.
    async fn try_batches(
        &self,
        time: Duration,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Vec<Tried>, TuneError> {
        let pool = &self.running.shared().pipeline.workers;
        let stats = pool.stats();
        let n_workers = stats.n_workers();
        if stats.workers.iter().all(|of| of.device == Device::Cpu) {
            return Ok(Vec::new());
        }
        let mut tried = Vec::new();
        for max_frames in BATCHES {
            progress(&format!("batches of {max_frames}"));
            pool.limit_batches(max_frames)?;
            // A batch must find enough that waits.
            let users = n_workers * max_frames / 4;
            let said = self.crowd().saturate(users, time).await;
            tried.push(Tried {
                setting: max_frames,
                frames_per_s: said.frames_per_s,
                alone: None,
            });
        }
        pool.limit_batches(usize::MAX)?;
        Ok(tried)
    }

    /// The most conversations of which 95 % of answers come in time.
    async fn find_capacity(
        &self,
        frames_per_s: f64,
        deadline: Instant,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Capacity {
        let crowd = self.crowd();
        let mut search = advice::Search::from(crowd.users_for(frames_per_s));
        while let Some(n_users) = search.next() {
            if Instant::now() + load::PROBE > deadline {
                break;
            }
            progress(&format!("{n_users} conversations"));
            let Spoken { p95, failed, .. } = crowd.converse(n_users).await;
            let is_good = p95.is_some_and(|p95| p95 <= GOAL) && failed <= 0.01;
            progress(&format!(
                "{n_users} conversations: p95 {:.0} ms",
                p95.unwrap_or_default().as_secs_f64() * 1e3
            ));
            search.note(n_users, is_good, p95.unwrap_or_default());
        }
        search.found()
    }
}

/// Bytes that this process may use; 0 where nobody knows.
fn memory_bytes() -> u64 {
    let memory = MemoryFigures::read().tightest();
    memory.map_or(0, |memory| memory.total)
}

fn reasons(broken: &[(ModelId, String)]) -> String {
    let reasons: Vec<_> = broken
        .iter()
        .map(|(id, detail)| format!("{id}: {detail}"))
        .collect();
    reasons.join("; ")
}
