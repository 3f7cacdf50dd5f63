//! Another configuration for a registry that is in use.

use std::{sync::Arc, thread};

use lipsync_core::ModelId;
use tokio::sync::watch;

use super::{Registry, Shared};
use crate::{ConfigRefused, RegistryConfig, book::Turnover, lock};

/// What a new configuration has changed about models, each list in the order of the configuration, and
/// `removed` sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Models that were not configured before.
    pub added: Vec<ModelId>,
    /// Models that are configured otherwise.
    pub changed: Vec<ModelId>,
    /// Models that are not configured any more.
    pub removed: Vec<ModelId>,
}

impl Changes {
    /// Whether all models are as they were.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Registry {
    /// Puts another configuration in place of the present one, all of it or, if it is refused, nothing. Returns
    /// what that has changed about models.
    ///
    /// *Models.* One that is not configured any more is unknown from now on. One that is configured otherwise, by
    /// any key of its own or by the precision, the JPEG quality or the `cache_dir` that it takes from
    /// `config`, is loaded anew when it is asked for, and at once if it is to be preloaded. In both cases
    /// whoever holds the old one keeps it, and its memory is given back, and no longer counted, when the last
    /// one is done. A model as before is not touched.
    ///
    /// *Loads under way* of models that are removed or changed come to nothing. Those who wait for one are told
    /// [`RegistryError::Removed`](crate::RegistryError::Removed), or get the model as it is configured
    /// now.
    ///
    /// *Budgets.* Smaller ones drop models that nobody uses, in the order of eviction, and frames. What is in use
    /// stays; until it is given back, more may be held than the new limit says, and nothing new is let in.
    /// The sizes of caches hold for loaded models, too. What bounds a load or a bake (`preload_frames`,
    /// `max_frames`, `max_pack_bytes`) holds for loads from now on.
    ///
    /// *Figures* of a model go on counting when it is changed, or removed and added again.
    ///
    /// Blocks while memory is given back, but not for loads: models to be preloaded that are new or changed are
    /// loaded on a thread, one after the other. [`Registry::look_over`] looks at the others, as after the
    /// start.
    ///
    /// # Errors
    /// [`ConfigRefused`].
    pub fn reconfigure(&self, config: RegistryConfig) -> Result<Changes, ConfigRefused> {
        config.check()?;
        let shared = &self.shared;
        let Turnover {
            changes,
            dropped,
            awaited,
            preloads,
        } = {
            let mut book = lock(&shared.book);
            let turnover = book.turn_over(config);
            let config = &book.config;
            // Under the lock, so that of two changes the later one counts in everything.
            shared.budget.limit(config.max_models, config.max_bytes);
            shared
                .frame_budget
                .limit(config.max_frame_bytes, config.frames_idle);
            book.ready()
                .for_each(|model| model.frames.set_bounds(config));
            turnover
        };
        if !changes.is_empty() {
            shared.revision.send_modify(|revision| *revision += 1);
        }
        for model in dropped {
            model.frames.retire();
        }
        shared.shrink();
        for job in awaited {
            self.start_loading(job);
        }
        self.start_preloading(preloads);
        Ok(changes)
    }

    /// How often the list of models has changed, now and whenever it does: then a model may be another one, or
    /// unknown, or there.
    #[must_use]
    pub fn watch_models(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    fn start_preloading(&self, ids: Vec<ModelId>) {
        if ids.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let load = move || {
            for id in ids {
                let job = lock(&shared.book).begin_preload(&id);
                if let Some(job) = job {
                    shared.load_and_land(&job);
                }
            }
        };
        let thread = thread::Builder::new().name("preload".into());
        if let Err(error) = thread.spawn(load) {
            tracing::warn!(%error, "no thread to preload models: they are loaded when they are asked for");
        }
    }
}

impl Shared {
    /// Gives back what is beyond the limits and nobody uses. More than them is held only after they were lowered.
    pub(super) fn shrink(&self) {
        self.evict_excess();
        self.frame_budget.reclaim(0, 0);
        let frames: Vec<_> = lock(&self.book)
            .ready()
            .map(|model| Arc::clone(&model.frames))
            .collect();
        frames.iter().for_each(|frames| frames.trim());
    }
}
