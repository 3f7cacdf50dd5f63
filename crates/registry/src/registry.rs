//! The registry: which models are in memory, and how they come and go.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use lipsync_core::ModelId;
use lipsync_engine::VisualCacheStats;
use tokio::sync::{oneshot, watch};

use crate::{
    Model, ModelConfig, ModelStatus, NetworkLoader, RegistryConfig, RegistryError, UnloadReason,
    baker::Baker,
    book::{Book, Job},
    budget::Budget,
    encoders::Encoders,
    entry::{Entry, Outcome, State},
    frame_budget::FrameBudget,
    frames::Frames,
    layout::Avatar,
    load::Loading,
    lock, network_file,
    read_ahead::ReadAhead,
};

use landing::PANICKED;

pub use reconfigure::Changes;

/// A model handed to a request.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The model, pinned for as long as this is held.
    pub model: Arc<Model>,
    /// How long the caller waited for it to load; zero when it was in memory.
    pub load_time: Duration,
}

/// The files of a configured model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    /// Its generator's ONNX file.
    pub generator: PathBuf,
    /// Its audio encoder's, where it has one.
    pub audio_encoder: Option<PathBuf>,
    /// Background frames.
    pub n_frames: u64,
}

/// All configured models, the ones in memory among them. Clones are the same registry.
///
/// Models are spread over the loader's devices. On each, the weights of models in memory, in use after an
/// unload, and being loaded never take more than [`RegistryConfig::max_bytes`] and what the device has.
/// A load that does not fit drops models that nobody uses; what is in use is never dropped, and a load that
/// does not fit beside it is refused. Only after [`Registry::reconfigure`] has lowered a limit may more be
/// held, until what is in use is given back.
///
/// Their background frames never take more than [`RegistryConfig::max_frame_bytes`]. Nothing is ever
/// refused for them: frames that do not fit are dropped, or not kept.
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    loader: Arc<dyn NetworkLoader>,
    pub(crate) budget: Arc<Budget>,
    frame_budget: Arc<FrameBudget>,
    read_ahead: ReadAhead,
    encoders: Encoders,
    baker: Arc<Baker>,
    /// Held for book-keeping only, never while files are read, networks made or memory freed.
    pub(crate) book: Mutex<Book>,
    /// How often the list of models has changed.
    revision: watch::Sender<u64>,
}

impl Registry {
    /// A registry with nothing in memory yet.
    #[must_use]
    pub fn new(config: RegistryConfig, loader: Arc<dyn NetworkLoader>) -> Self {
        let budget = Budget::new(config.max_models, config.max_bytes, loader.devices());
        let frame_budget = FrameBudget::new(config.max_frame_bytes, config.frames_idle);
        Self {
            shared: Arc::new(Shared {
                loader,
                budget,
                frame_budget,
                read_ahead: ReadAhead::start(),
                encoders: Encoders::default(),
                baker: Arc::default(),
                book: Mutex::new(Book::new(config)),
                revision: watch::Sender::new(0),
            }),
        }
    }

    /// The model for a request, which counts as a use; loaded first if it is not in memory.
    ///
    /// However many ask for a missing model at once, it is loaded once, on a thread of its own that
    /// goes on even if all of them go away. Never blocks the calling thread.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`], [`RegistryError::OutOfMemory`] or
    /// [`RegistryError::TooManyModels`], and whatever is wrong with the model's files. The next
    /// call tries a failed load again.
    pub async fn model(&self, id: &ModelId) -> Result<Lease, RegistryError> {
        let lease = self.load(id).await?;
        lease.model.usage.count_request();
        Ok(lease)
    }

    /// As [`Self::model`], without counting a use.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub async fn load(&self, id: &ModelId) -> Result<Lease, RegistryError> {
        let asked = Instant::now();
        let waiting = match self.ask(id)? {
            Asked::Ready(model) => {
                return Ok(Lease {
                    model,
                    load_time: Duration::ZERO,
                });
            }
            Asked::Loading(waiting) => waiting,
        };
        // Every load ends with an answer; should one not, this is not the place to hang.
        let outcome = waiting.await.unwrap_or(Err(PANICKED));
        outcome.map(|model| Lease {
            model,
            load_time: asked.elapsed(),
        })
    }

    /// Loads the models that are configured to be, one after the other, and returns those that
    /// failed.
    pub async fn preload(&self) -> Vec<(ModelId, RegistryError)> {
        let mut failed = Vec::new();
        for model in self.shared.config().models.iter().filter(|m| m.preload) {
            if let Err(error) = self.load(&model.id).await {
                failed.push((model.id.clone(), error));
            }
        }
        failed
    }

    /// Looks at what the disk says of models that nobody has asked for yet, and are not to be preloaded, as far
    /// as little has to be read for it: folders, manifests, and where the named files are. Those that cannot
    /// be loaded as they are have failed from then on, as if somebody had asked for them.
    pub fn look_over(&self) {
        let configs: Vec<_> = lock(&self.shared.book)
            .entries
            .values()
            .map(|entry| Arc::clone(&entry.config))
            .collect();
        for config in configs.into_iter().filter(|config| !config.preload) {
            let Err(error) = Avatar::glance(&config) else {
                continue;
            };
            let mut book = lock(&self.shared.book);
            let entry = book.entry_of(&config);
            let Some(entry) = entry.filter(|e| matches!(e.state, State::Unloaded)) else {
                continue;
            };
            entry.state = State::Failed(error.clone());
            entry.tell();
            drop(book);
            tracing::warn!(model = %config.id, error = error.detail(), "the model cannot be loaded");
        }
    }

    /// Whether the last load of a model failed, now and whenever that changes. While a failed load is tried
    /// again, it still did. Ends when the model is removed.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`].
    pub fn watch_failed(&self, id: &ModelId) -> Result<watch::Receiver<bool>, RegistryError> {
        self.with_entry(id, |entry| entry.failed.subscribe())
    }

    /// The model, if it is in memory. Does not count as a use.
    #[must_use]
    pub fn resident(&self, id: &ModelId) -> Option<Arc<Model>> {
        match &lock(&self.shared.book).entries.get(id)?.state {
            State::Ready(model) => Some(Arc::clone(model)),
            _ => None,
        }
    }

    /// Drops a model from memory. Returns whether it was ready; a load under way goes on.
    ///
    /// Whoever uses it finishes; its memory is given back then. A request in the meantime loads it
    /// anew, from whatever files there are then. Blocks while memory is given back.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`].
    pub fn unload(&self, id: &ModelId) -> Result<bool, RegistryError> {
        let unloaded = self.with_entry(id, |entry| entry.unload(UnloadReason::Requested))?;
        if unloaded.is_some() {
            tracing::info!(model = %id, "model unloaded");
        }
        Ok(unloaded.is_some())
    }

    /// Housekeeping, to be called every few seconds; returns the models that were dropped.
    ///
    /// Models that nobody uses and whose last use, or load, is at least
    /// [`RegistryConfig::idle_timeout`] before `now` are dropped. Those that are idle give back frames
    /// ([`RegistryConfig::frames_idle`]). What is held beyond limits that were lowered goes as soon as
    /// nobody uses it. Packs that turned out to be damaged, or that another process was baking, are looked at
    /// again. Blocks: files are opened, and memory is given back.
    pub fn tend(&self, now: Instant) -> Vec<ModelId> {
        let config = self.shared.config();
        let dropped = self.drop_idle(now, config.idle_timeout);
        self.shared.shrink();
        self.shared.frame_budget.shrink_idle(now);
        // Of the models themselves nothing may be held here: it would look like a use.
        let frames: Vec<_> = lock(&self.shared.book)
            .ready()
            .map(|model| (model.id.clone(), Arc::clone(&model.frames)))
            .collect();
        for (id, frames) in frames {
            frames.look_for_pack();
            if config.bake {
                self.shared.bake_if_needed(&id, &frames, now);
            }
        }
        dropped
    }

    fn drop_idle(&self, now: Instant, timeout: Option<Duration>) -> Vec<ModelId> {
        let Some(timeout) = timeout else {
            return Vec::new();
        };
        let mut dropped = Vec::new();
        for (id, entry) in &mut lock(&self.shared.book).entries {
            let idle = now.saturating_duration_since(entry.usage.record().last_active);
            if idle >= timeout && entry.unused().is_some() {
                dropped.extend(
                    entry
                        .unload(UnloadReason::Idle)
                        .map(|model| (id.clone(), model)),
                );
            }
        }
        // The memory itself is given back here, outside the lock.
        let drop_and_name = |(id, model)| {
            drop::<Arc<Model>>(model);
            tracing::info!(model = %id, "idle model dropped");
            id
        };
        dropped.into_iter().map(drop_and_name).collect()
    }

    /// Ends baking in the background for good, without leaving a part of a pack.
    ///
    /// Blocks until that is done, at most for `limit`.
    pub fn stop_baking(&self, limit: Duration) {
        self.shared.baker.stop(limit);
    }

    /// All configured models, sorted by id.
    #[must_use]
    pub fn list(&self) -> Vec<ModelStatus> {
        let book = lock(&self.shared.book);
        book.entries.values().map(Entry::status).collect()
    }

    /// One configured model.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`].
    pub fn status(&self, id: &ModelId) -> Result<ModelStatus, RegistryError> {
        self.with_entry(id, |entry| entry.status())
    }

    /// Where the files of a configured model are; nothing is loaded.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`], and what is wrong with the model's description.
    pub fn files(&self, id: &ModelId) -> Result<ModelFiles, RegistryError> {
        let config = self.with_entry(id, |entry| Arc::clone(&entry.config))?;
        let avatar = Avatar::find(&config, self.shared.config().max_frames)?;
        let file = |path: &PathBuf, what| {
            let real = avatar.fence.resolve(path, what)?;
            avatar.fence.look(&real, what).map(|_| real)
        };
        let encoder = avatar.audio_encoder.as_ref();
        Ok(ModelFiles {
            generator: file(&avatar.generator, "generator")?,
            audio_encoder: encoder.map(|p| file(p, "audio encoder")).transpose()?,
            n_frames: avatar.frames.len() as u64,
        })
    }

    /// The generator's file of a configured model, with the [data files](lipsync_engine::onnx::external) beside it;
    /// nothing is loaded.
    ///
    /// # Errors
    /// As [`files`](Self::files).
    pub fn read_generator(&self, id: &ModelId) -> Result<Vec<u8>, RegistryError> {
        let config = self.with_entry(id, |entry| Arc::clone(&entry.config))?;
        let avatar = Avatar::find(&config, self.shared.config().max_frames)?;
        network_file::read(&avatar.fence, &avatar.generator, "generator")
    }

    /// Has caches of frames and of network results hold at most this part of what is configured, percent (up to 100),
    /// from now on. Nothing is refused for it: what is not kept is read or computed again. What is beyond it goes
    /// before this returns, so it blocks.
    pub fn limit_caches(&self, percent: u32) {
        self.shared.frame_budget.use_only(percent);
        self.shared.shrink();
        self.shared.loader.limit_visual_cache(percent);
    }

    /// How what all generators keep of background frames has fared.
    #[must_use]
    pub fn visual_cache(&self) -> VisualCacheStats {
        self.shared.loader.visual_cache()
    }

    /// Bytes that models in memory take now: weights and frames.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let book = lock(&self.shared.book);
        let weights: u64 = book.ready().map(|m| m.weights_bytes()).sum();
        weights + self.frame_bytes()
    }

    /// Bytes that the caches of all models hold. Never more than
    /// [`RegistryConfig::max_frame_bytes`].
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.shared.frame_budget.held()
    }

    /// Bytes of weights that are taken, on all devices: by models in memory, by those that finish after an
    /// unload, and by loads under way. Never more than [`RegistryConfig::max_bytes`] a device.
    #[must_use]
    pub fn reserved_bytes(&self) -> u64 {
        self.shared.budget.held_bytes()
    }

    /// Models that are ready.
    #[must_use]
    pub fn n_ready(&self) -> usize {
        lock(&self.shared.book).ready().count()
    }

    /// Whether a model of this name is configured.
    #[must_use]
    pub fn contains(&self, id: &ModelId) -> bool {
        lock(&self.shared.book).entries.contains_key(id)
    }

    pub(crate) fn with_entry<T>(
        &self,
        id: &ModelId,
        look: impl FnOnce(&mut Entry) -> T,
    ) -> Result<T, RegistryError> {
        match lock(&self.shared.book).entries.get_mut(id) {
            Some(entry) => Ok(look(entry)),
            None => Err(RegistryError::UnknownModel { id: id.clone() }),
        }
    }

    /// The model, or a place among those who wait for it; the first to wait starts the load.
    fn ask(&self, id: &ModelId) -> Result<Asked, RegistryError> {
        let (answer, waiting) = oneshot::channel();
        let mut book = lock(&self.shared.book);
        let Some(entry) = book.entries.get_mut(id) else {
            return Err(RegistryError::UnknownModel { id: id.clone() });
        };
        match &mut entry.state {
            State::Ready(model) => return Ok(Asked::Ready(Arc::clone(model))),
            State::Loading(waiters) => {
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(answer);
                return Ok(Asked::Loading(waiting));
            }
            State::Unloaded | State::Failed(_) => entry.state = State::Loading(vec![answer]),
        }
        let job = book.job(id);
        drop(book);
        if let Some(job) = job {
            self.start_loading(job);
        }
        Ok(Asked::Loading(waiting))
    }

    fn start_loading(&self, job: Job) {
        let shared = Arc::clone(&self.shared);
        let config = Arc::clone(&job.config);
        let started = thread::Builder::new()
            .name(format!("load-{}", config.id))
            .spawn(move || shared.load_and_land(&job));
        if let Err(error) = started {
            let kind = error.kind();
            self.shared
                .finish(&config, Err(RegistryError::Thread { kind }));
        }
    }
}

enum Asked {
    Ready(Arc<Model>),
    Loading(oneshot::Receiver<Outcome>),
}

impl Shared {
    /// What the registry was told last.
    pub(crate) fn config(&self) -> Arc<RegistryConfig> {
        Arc::clone(&lock(&self.book).config)
    }

    pub(crate) fn loading<'a>(
        &'a self,
        config: &'a ModelConfig,
        registry: &'a RegistryConfig,
    ) -> Loading<'a> {
        Loading {
            config,
            registry,
            loader: &*self.loader,
            frame_budget: &self.frame_budget,
            read_ahead: &self.read_ahead,
            encoders: &self.encoders,
        }
    }

    /// Has a missing or bad pack baked, unless that was tried and did not work, or not long ago.
    fn bake_if_needed(&self, id: &ModelId, frames: &Arc<Frames>, now: Instant) {
        if frames.needs_bake(now) {
            self.baker.enqueue(id, frames);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without waiting: what is half baked is given up by its own thread.
        self.baker.stop(Duration::ZERO);
    }
}

mod landing;
mod reconfigure;
#[cfg(test)]
mod tests;
