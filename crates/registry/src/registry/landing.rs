//! How a load ends: entered into the book, whatever happens on its way, and only then in the log.

use std::time::Duration;

use lipsync_core::ModelId;
use lipsync_engine::Device;

use super::Shared;
use crate::{Model, PrecisionInUse, RegistryError};

pub(super) const PANICKED: RegistryError = RegistryError::Panicked {
    what: "loading the model",
};

/// A load under way. However its thread ends, the load ends with it: a model is not left loading.
pub(super) struct Landing<'a> {
    shared: &'a Shared,
    id: &'a ModelId,
    has_landed: bool,
}

impl<'a> Landing<'a> {
    pub(super) fn new(shared: &'a Shared, id: &'a ModelId) -> Self {
        Self {
            shared,
            id,
            has_landed: false,
        }
    }

    pub(super) fn land(mut self, outcome: Result<Model, RegistryError>) {
        self.shared.finish(self.id, outcome);
        self.has_landed = true;
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if !self.has_landed {
            self.shared.finish(self.id, Err(PANICKED));
        }
    }
}

/// What the log says of a load, once that has landed: nobody waits for a log.
pub(super) enum Report {
    Ready {
        device: Device,
        weights_bytes: u64,
        precision: PrecisionInUse,
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
                precision: model.precision().clone(),
            },
            Err(error) => Self::Failed {
                detail: error.detail(),
            },
        }
    }

    pub(super) fn log(self, id: &ModelId, load_time: Duration) {
        match self {
            Self::Ready {
                device,
                weights_bytes,
                precision,
            } => {
                let (precision, reason) = (precision.name(), precision.reason);
                tracing::info!(model = %id, %device, ?load_time, weights_bytes, precision, %reason, "model ready");
            }
            Self::Failed { detail } => {
                tracing::warn!(model = %id, ?load_time, error = detail, "load failed");
            }
        }
    }
}
