//! Networks: ONNX import, plan, CPU and CUDA kernels.
//!
//! What only this crate knows: how a generator or an audio encoder of the U-Net family is read from
//! an ONNX file and executed. It does not know threads, queues, models on disk or pixels outside
//! the face crop. Start with [`generator`], the trait that the worker pool runs.
//!
//! A file's way: [`onnx`] (bytes) to [`import`] (meaning, constants folded) to [`graph`] (a small
//! operator set, simplified) to `schedule` (fused, placed) to one of the two engines: `cpu` (a plan
//! packed for an instruction set, run by [`kernels`]) or [`cuda`]. The `oracle` serves nobody:
//! [`mod@reference`] runs the same graph slowly, [`network_writer`] makes networks to test with.
#![deny(unsafe_code)]

mod contract;
mod cpu;
pub mod cuda;
pub mod device;
pub mod encoder;
pub mod error;
pub mod generator;
pub mod graph;
pub mod heap;
pub mod import;
pub mod inspect;
pub mod load;
pub mod make_room;
pub mod network_loader;
pub mod onnx;
pub mod options;
mod oracle;
mod schedule;
pub mod visual_cache;
mod workspace;

pub use contract::Role;
pub use cpu::{CpuIsa, Network, PlanReport, StepReport, kernels};
pub use device::Device;
pub use encoder::AudioEncoder;
pub use error::EngineError;
pub use generator::{FaceInput, Generator, OutputRange, Ticket};
pub use inspect::{Inspection, inspect, inspect_plan};
pub use load::{audio_shape, load_audio_encoder, load_generator};
pub use make_room::{MakeRoom, Shortage, with_room};
pub use network_loader::{DeviceRoom, NetworkLoader};
pub use options::{Int8Kind, LoadOptions, NetworkLimits, Precision, Steps};
pub use oracle::{network_writer, reference};
pub use visual_cache::{VisualCache, VisualCacheStats};
pub use workspace::Workspace;

/// What runs networks, in words: `cpu (avx512)`.
#[must_use]
pub fn device_name(isa: CpuIsa) -> String {
    match isa.resolve() {
        Ok(found) => format!("cpu ({})", found.name()),
        Err(refused) => format!("cpu ({refused})"),
    }
}
