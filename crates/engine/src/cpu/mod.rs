//! The CPU engine: a graph packed for one instruction set and run by kernels of our own.
//!
//! [`network`] loads a file of any shape, [`generator`] and [`encoder`] those that serve; [`sequence`] and [`speech_encoder`] run
//! the encoders that are no networks of feature maps. [`plan`] says
//! which kernel runs when and where values lie, [`kernels`] compute, [`arena`] is the memory. What is grouped into one step and what shares memory is decided in [`crate::schedule`],
//! which the CUDA engine uses, too.

mod arena;
mod cpu_isa;
mod encoder;
mod generator;
pub mod kernels;
mod layout;
mod network;
mod plan;
mod sequence;
mod speech_encoder;

pub(crate) use arena::Arenas;
pub use cpu_isa::CpuIsa;
pub(crate) use encoder::NetworkEncoder;
pub(crate) use generator::CpuGenerator;
pub use network::Network;
pub use plan::report::{PlanReport, StepReport};
pub(crate) use sequence::SequenceMemory;
pub(crate) use speech_encoder::SpeechEncoder;
