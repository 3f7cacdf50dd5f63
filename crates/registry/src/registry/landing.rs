//! How a load runs, and how it ends: entered into the book, whatever happens on its way, and only then in the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::{ModelId, saturate::millis};
use lipsync_engine::Device;

use super::Shared;
use crate::{Model, ModelConfig, PrecisionReason, RegistryError, book::Job, entry::State, lock};

pub(super) const PANICKED: RegistryError = RegistryError::Panicked {
    what: "loading the model",
};

/// A load under way. However its thread ends, the load ends with it: a model is not left loading.
pub(super) struct Landing<'a> {
    shared: &'a Shared,
    config: &'a Arc<ModelConfig>,
    has_landed: bool,
}

impl<'a> Landing<'a> {
    pub(super) fn new(shared: &'a Shared, config: &'a Arc<ModelConfig>) -> Self {
        Self {
            shared,
            config,
            has_landed: false,
        }
    }

    /// Whether the load was still wanted.
    pub(super) fn land(mut self, outcome: Result<Model, RegistryError>) -> bool {
        let was_wanted = self.shared.finish(self.config, outcome);
        self.has_landed = true;
        was_wanted
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if !self.has_landed {
            self.shared.finish(self.config, Err(PANICKED));
        }
    }
}

impl Shared {
    /// Does a load on this thread, from its begin to its end in the book and in the log.
    pub(super) fn load_and_land(&self, job: &Job) {
        let landing = Landing::new(self, &job.config);
        let started = Instant::now();
        let outcome = self.load_contained(job);
        let report = Report::new(&outcome);
        job.usage.count_load_time(started.elapsed());
        if landing.land(outcome) {
            report.log(&job.config.id, started.elapsed());
        }
    }

    fn load_contained(&self, job: &Job) -> Result<Model, RegistryError> {
        let load = || {
            let model = self
                .loading(&job.config, &job.registry)
                .run(&job.usage, self)?;
            if job.registry.bake {
                self.bake_if_needed(&job.config.id, &model.frames, Instant::now());
            }
            Ok(model)
        };
        let loaded = catch_unwind(AssertUnwindSafe(load));
        loaded.unwrap_or(Err(PANICKED))
    }

    /// Enters a load's outcome and tells those who wait; whether the load was still wanted. Where the model is
    /// configured otherwise by now, nothing of it stays.
    ///
    /// They are told under the lock, so that no eviction comes between the model's readiness and
    /// their hold of it; and this thread keeps no reference that would look like a use.
    pub(super) fn finish(
        &self,
        config: &Arc<ModelConfig>,
        outcome: Result<Model, RegistryError>,
    ) -> bool {
        let mut book = lock(&self.book);
        let registry = Arc::clone(&book.config);
        let Some(entry) = book.entry_of(config) else {
            drop(book);
            // A model's memory is given back outside the lock.
            if let Ok(model) = outcome {
                model.frames.retire();
            }
            return false;
        };
        let outcome = outcome.map(Arc::new);
        let state = match &outcome {
            Ok(model) => {
                model.frames.set_bounds(&registry);
                entry.info = Some(model.info());
                entry.usage.count_load();
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
        true
    }
}

/// What the log says of a load, once that has landed: nobody waits for a log.
pub(super) enum Report {
    Ready {
        device: Device,
        weights_bytes: u64,
        precision: String,
        reason: PrecisionReason,
    },
    Failed {
        detail: String,
    },
}

impl Report {
    pub(super) fn new(outcome: &Result<Model, RegistryError>) -> Self {
        match outcome {
            Ok(model) => Self::Ready {
                device: model.generator.device(),
                weights_bytes: model.weights_bytes(),
                precision: model.precision().name(),
                reason: model.precision().reason,
            },
            Err(error) => Self::Failed {
                detail: error.detail(),
            },
        }
    }

    pub(super) fn log(self, id: &ModelId, load_time: Duration) {
        let load_ms = millis(load_time);
        match self {
            Self::Ready {
                device,
                weights_bytes,
                precision,
                reason,
            } => {
                tracing::info!(model = %id, %device, load_ms, weights_bytes, precision, %reason, "model ready");
            }
            Self::Failed { detail } => {
                tracing::warn!(model = %id, load_ms, error = detail, "load failed");
            }
        }
    }
}
