//! The CPU engine: a graph packed for one instruction set and run by kernels of our own.
//!
//! [`network`] loads a file, [`plan`] says which kernel runs when and where values lie, [`kernels`]
//! compute. What is grouped into one step and what shares memory is decided in [`crate::schedule`],
//! which the CUDA engine uses, too.

mod cpu_isa;
pub mod kernels;
mod layout;
pub(crate) mod network;
pub(crate) mod plan;

pub use cpu_isa::CpuIsa;
pub use network::Network;
pub use plan::report::{PlanReport, StepReport};
