//! The registry: which models are in memory, and how they come and go.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU64},
    thread,
    time::{Duration, Instant},
};

use lipsync_core::ModelId;
use lipsync_engine::VisualCacheStats;
use tokio::sync::{oneshot, watch};

use crate::{
    Model, ModelConfig, ModelStatus, NetworkLoader, RegistryConfig, RegistryError,
    baker::Baker,
    budget::Budget,
    entry::{Book, Entry, Outcome, State},
    frame_budget::FrameBudget,
    frames::Frames,
    layout::Avatar,
    load::Loading,
    lock,
    read_ahead::ReadAhead,
    usage::Usage,
};

use landing::{Landing, PANICKED, Report};

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
/// does not fit beside it is refused.
///
/// Their background frames never take more than [`RegistryConfig::max_frame_bytes`]. Nothing is ever
/// refused for them: frames that do not fit are dropped, or not kept.
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: RegistryConfig,
    loader: Arc<dyn NetworkLoader>,
    pub(crate) budget: Arc<Budget>,
    frame_budget: Arc<FrameBudget>,
    read_ahead: ReadAhead,
    baker: Arc<Baker>,
    /// Held for book-keeping only, never while files are read, networks made or memory freed.
    pub(crate) book: Mutex<Book>,
}

impl Registry {
    /// A registry with nothing in memory yet.
    #[must_use]
    pub fn new(config: RegistryConfig, loader: Arc<dyn NetworkLoader>) -> Self {
        let turns = Arc::new(AtomicU64::new(0));
        let entry = |model: &crate::ModelConfig| {
            let entry = Entry {
                config: Arc::new(model.clone()),
                state: State::Unloaded,
                usage: Arc::new(Usage::new(Arc::clone(&turns))),
                info: None,
                loads: 0,
                unloads: 0,
                failed: watch::Sender::new(false),
            };
            (model.id.clone(), entry)
        };
        let book = Mutex::new(config.models.iter().map(entry).collect());
        let budget = Budget::new(config.max_models, config.max_bytes, loader.devices());
        let frame_budget = FrameBudget::new(config.max_frame_bytes, config.frames_idle);
        Self {
            shared: Arc::new(Shared {
                config,
                loader,
                budget,
                frame_budget,
                read_ahead: ReadAhead::start(),
                baker: Arc::default(),
                book,
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
        for model in self.shared.config.models.iter().filter(|m| m.preload) {
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
            .values()
            .map(|entry| Arc::clone(&entry.config))
            .collect();
        for config in configs.into_iter().filter(|config| !config.preload) {
            let Err(error) = Avatar::glance(&config) else {
                continue;
            };
            let mut book = lock(&self.shared.book);
            let entry = book.get_mut(&config.id);
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
    /// again, it still did.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`].
    pub fn watch_failed(&self, id: &ModelId) -> Result<watch::Receiver<bool>, RegistryError> {
        self.with_entry(id, |entry| entry.failed.subscribe())
    }

    /// The model, if it is in memory. Does not count as a use.
    #[must_use]
    pub fn resident(&self, id: &ModelId) -> Option<Arc<Model>> {
        match &lock(&self.shared.book).get(id)?.state {
            State::Ready(model) => Some(Arc::clone(model)),
            _ => None,
        }
    }

    /// Drops a model from memory. Returns whether it was ready; a load under way goes on.
    ///
    /// Whoever uses it finishes; its memory is given back then. A request in the meantime loads it
    /// anew, from whatever files there are then.
    ///
    /// # Errors
    /// [`RegistryError::UnknownModel`].
    pub fn unload(&self, id: &ModelId) -> Result<bool, RegistryError> {
        let unloaded = self.with_entry(id, Entry::unload)?;
        if unloaded.is_some() {
            tracing::info!(model = %id, "model unloaded");
        }
        Ok(unloaded.is_some())
    }

    /// Housekeeping, to be called every few seconds; returns the models that were dropped.
    ///
    /// Models that nobody uses and whose last use, or load, is at least
    /// [`RegistryConfig::idle_timeout`] before `now` are dropped. Those that are idle give back frames
    /// ([`RegistryConfig::frames_idle`]). Packs that turned out to be damaged, or that another process
    /// was baking, are looked at again.
    pub fn tend(&self, now: Instant) -> Vec<ModelId> {
        let dropped = self.drop_idle(now);
        self.shared.frame_budget.shrink_idle(now);
        // Of the models themselves nothing may be held here: it would look like a use.
        let frames: Vec<_> = ready_models(&lock(&self.shared.book))
            .map(|model| (model.id.clone(), Arc::clone(&model.frames)))
            .collect();
        for (id, frames) in frames {
            frames.look_for_pack();
            self.shared.bake_if_needed(&id, &frames, now);
        }
        dropped
    }

    fn drop_idle(&self, now: Instant) -> Vec<ModelId> {
        let Some(timeout) = self.shared.config.idle_timeout else {
            return Vec::new();
        };
        let mut dropped = Vec::new();
        for (id, entry) in lock(&self.shared.book).iter_mut() {
            let idle = now.saturating_duration_since(entry.usage.record().last_active);
            if idle >= timeout && entry.unused().is_some() {
                dropped.extend(entry.unload().map(|model| (id.clone(), model)));
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
        book.values().map(Entry::status).collect()
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
        let avatar = Avatar::find(&config, self.shared.config.max_frames)?;
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

    /// How what all generators keep of background frames has fared.
    #[must_use]
    pub fn visual_cache(&self) -> VisualCacheStats {
        self.shared.loader.visual_cache()
    }

    /// Bytes that models in memory take now: weights and frames.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let book = lock(&self.shared.book);
        let weights: u64 = ready_models(&book).map(|m| m.weights_bytes()).sum();
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
        ready_models(&lock(&self.shared.book)).count()
    }

    /// Whether a model of this name is configured.
    #[must_use]
    pub fn contains(&self, id: &ModelId) -> bool {
        lock(&self.shared.book).contains_key(id)
    }

    pub(crate) fn with_entry<T>(
        &self,
        id: &ModelId,
        look: impl FnOnce(&mut Entry) -> T,
    ) -> Result<T, RegistryError> {
        match lock(&self.shared.book).get_mut(id) {
            Some(entry) => Ok(look(entry)),
            None => Err(RegistryError::UnknownModel { id: id.clone() }),
        }
    }

    /// The model, or a place among those who wait for it; the first to wait starts the load.
    fn ask(&self, id: &ModelId) -> Result<Asked, RegistryError> {
        let (answer, waiting) = oneshot::channel();
        let to_load = self.with_entry(id, |entry| match &mut entry.state {
            State::Ready(model) => Err(Arc::clone(model)),
            State::Loading(waiters) => {
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(answer);
                Ok(None)
            }
            State::Unloaded | State::Failed(_) => {
                entry.state = State::Loading(vec![answer]);
                Ok(Some(Arc::clone(&entry.usage)))
            }
        })?;
        match to_load {
            Err(model) => return Ok(Asked::Ready(model)),
            Ok(Some(usage)) => self.start_loading(id, usage),
            Ok(None) => {}
        }
        Ok(Asked::Loading(waiting))
    }

    fn start_loading(&self, id: &ModelId, usage: Arc<Usage>) {
        let (shared, model_id) = (Arc::clone(&self.shared), id.clone());
        let started = thread::Builder::new()
            .name(format!("load-{id}"))
            .spawn(move || {
                let landing = Landing::new(&shared, &model_id);
                let started = Instant::now();
                let outcome = shared.load_contained(&model_id, &usage);
                let report = Report::new(&outcome);
                landing.land(outcome);
                report.log(&model_id, started.elapsed());
            });
        if let Err(error) = started {
            let kind = error.kind();
            self.shared.finish(id, Err(RegistryError::Thread { kind }));
        }
    }
}

fn ready_models(book: &Book) -> impl Iterator<Item = &Arc<Model>> {
    book.values().filter_map(|entry| match &entry.state {
        State::Ready(model) => Some(model),
        _ => None,
    })
}

enum Asked {
    Ready(Arc<Model>),
    Loading(oneshot::Receiver<Outcome>),
}

impl Shared {
    pub(crate) fn loading<'a>(&'a self, config: &'a ModelConfig) -> Loading<'a> {
        Loading {
            config,
            registry: &self.config,
            loader: &*self.loader,
            frame_budget: &self.frame_budget,
            read_ahead: &self.read_ahead,
        }
    }

    /// Has a missing or bad pack baked, unless that was tried and did not work, or not long ago.
    fn bake_if_needed(&self, id: &ModelId, frames: &Arc<Frames>, now: Instant) {
        if self.config.bake && frames.needs_bake(now) {
            self.baker.enqueue(id, frames);
        }
    }

    fn load_contained(&self, id: &ModelId, usage: &Arc<Usage>) -> Result<Model, RegistryError> {
        let config = lock(&self.book).get(id).map(|e| Arc::clone(&e.config));
        let config = config.ok_or_else(|| RegistryError::UnknownModel { id: id.clone() })?;
        let load = || {
            let model = self.loading(&config).run(usage, self)?;
            self.bake_if_needed(id, &model.frames, Instant::now());
            Ok(model)
        };
        let loaded = catch_unwind(AssertUnwindSafe(load));
        loaded.unwrap_or(Err(PANICKED))
    }

    /// Enters a load's outcome and tells those who wait.
    ///
    /// They are told under the lock, so that no eviction comes between the model's readiness and
    /// their hold of it; and this thread keeps no reference that would look like a use.
    fn finish(&self, id: &ModelId, outcome: Result<Model, RegistryError>) {
        let mut book = lock(&self.book);
        let Some(entry) = book.get_mut(id) else {
            return;
        };
        let outcome = outcome.map(Arc::new);
        let state = match &outcome {
            Ok(model) => {
                entry.loads += 1;
                entry.info = Some(model.info());
                entry.usage.touch();
                State::Ready(Arc::clone(model))
            }
            Err(error) => State::Failed(error.clone()),
        };
        let before = std::mem::replace(&mut entry.state, state);
        entry.tell();
        if let State::Loading(waiters) = before {
            for waiter in waiters {
                // Who went away needs no answer.
                let _ = waiter.send(outcome.clone());
            }
        }
        // Before the lock is given back: see above.
        drop(outcome);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without waiting: what is half baked is given up by its own thread.
        self.baker.stop(Duration::ZERO);
    }
}

mod landing;
#[cfg(test)]
mod tests;
