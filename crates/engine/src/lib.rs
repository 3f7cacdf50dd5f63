//! Networks: ONNX import, plan, CPU and CUDA kernels.
//!
//! What only this crate knows: how a generator or an audio encoder of the U-Net family is read from
//! an ONNX file and executed. It does not know threads, queues, models on disk or pixels outside
//! the face crop. Start with [`generator`], the trait that the worker pool runs.
//!
//! A file's way: [`onnx`] (bytes) to [`import`] (meaning, constants folded) to [`graph`] (a small
//! operator set, simplified) to `plan` (fused, packed, placed) to [`kernels`]. [`mod@reference`] runs the
//! same graph slowly and is the oracle; [`network_writer`] makes networks to test with.
#![deny(unsafe_code)]

pub mod cpu_isa;
pub mod cuda;
pub mod device;
pub mod encoder;
pub mod error;
pub mod generator;
pub mod graph;
pub mod heap;
pub mod import;
pub mod inspect;
pub mod kernels;
mod layout;
pub mod load;
pub mod make_room;
pub mod network;
pub mod network_writer;
pub mod onnx;
pub mod options;
mod plan;
pub mod reference;
pub mod session;
pub mod visual_cache;

pub use cpu_isa::CpuIsa;
pub use device::Device;
pub use encoder::AudioEncoder;
pub use error::EngineError;
pub use generator::{FaceInput, Generator};
pub use inspect::{Inspection, inspect, inspect_plan};
pub use load::{load_audio_encoder, load_generator};
pub use make_room::{MakeRoom, Shortage, with_room};
pub use network::Network;
pub use options::{LoadOptions, NetworkLimits, Precision};
pub use plan::report::{PlanReport, StepReport};
pub use session::Session;
pub use visual_cache::{VisualCache, VisualCacheStats};

/// What runs networks, in words: `cpu (avx512)`.
#[must_use]
pub fn device_name(isa: CpuIsa) -> String {
    match isa.resolve() {
        Ok(found) => format!("cpu ({})", found.name()),
        Err(refused) => format!("cpu ({refused})"),
    }
}
