//! What a frame of a model that was not measured may cost: by the work of its network.

use std::time::Duration;

use lipsync_core::ModelId;
use lipsync_engine::CpuIsa;
use lipsync_registry::Registry;

use super::{Cost, Machine};
use crate::Config;

impl<'a> Machine<'a> {
    /// The machine that a configuration is for.
    #[must_use]
    pub fn of(config: &Config, cost: &'a dyn Fn(&ModelId) -> Option<Cost>) -> Self {
        let places = config.admission();
        let models = config.registry.models.iter();
        Self {
            models: models.map(|model| (model.id.clone(), model.fps)).collect(),
            n_workers: config.server.workers.max(),
            max_sessions: places.max_sessions,
            max_requests: places.max_requests(),
            max_models: config.registry.max_models,
            cost,
        }
    }
}

/// Multiply-adds a second of a core in f32, as measured with full-size networks; within a factor of two for others. Those
/// of Arm are reckoned, for two units of four floats at 2 GHz.
fn macs_per_s(isa: CpuIsa) -> f64 {
    match isa.resolve().map_or("portable", |isa| isa.name()) {
        "portable" => 5e9,
        "neon" | "neon_dotprod" => 16e9,
        "avx2" | "avx2_vnni" => 55e9,
        _ => 100e9,
    }
}

/// The cost of a frame on one core, if the model's file can be read. Blocks on the file system.
#[must_use]
pub fn estimate(registry: &Registry, model: &ModelId, isa: CpuIsa) -> Option<Cost> {
    let onnx = registry.read_generator(model).ok()?;
    estimated(lipsync_engine::inspect(&onnx).ok()?.macs_per_frame, isa)
}

/// The cost of a frame of so many multiply-adds on one core; `None` where nobody knows how many they are.
#[must_use]
pub fn estimated(macs: u64, isa: CpuIsa) -> Option<Cost> {
    (macs > 0).then(|| Cost {
        per_frame: Duration::from_secs_f64(macs as f64 / macs_per_s(isa)),
        is_measured: false,
    })
}
