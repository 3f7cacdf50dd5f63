//! The server: gRPC services over the registry and the worker pool.
//!
//! What only this crate knows: how the wire maps to the domain and back, who is let in, what
//! `config.yaml` says, and how a process starts and ends. The binary is a thin shell around
//! [`Server`]; integration tests start the same thing in-process on port 0. The life of a request
//! begins in [`service`]; what browsers and probes see of it is in `operations`.
#![forbid(unsafe_code)]
// It panics where standard error is gone, and waits where nobody reads it.
#![deny(clippy::print_stderr)]

pub mod admission;
pub mod answer_limit;
pub mod banner;
pub mod batch;
pub mod caller;
pub mod capacity_plan;
pub mod clip;
pub mod coding;
pub mod comparison;
pub mod config;
pub mod core_state;
pub mod cpu_pool;
pub mod devices;
pub mod error;
mod file;
mod first_bytes;
pub mod gate;
pub mod gpus;
pub mod health;
mod levels;
mod listen;
pub mod loader;
mod operations;
pub mod order;
pub mod output;
pub mod peer;
pub mod phase;
pub mod pipeline;
pub mod process;
pub mod request_layer;
mod seam;
pub mod serve;
pub mod service;
pub mod speech;
pub mod stages;
mod stream;
mod transport;
pub mod wire;

pub use config::Config;
pub use devices::DeviceRefused;
pub use error::ServeError;
pub use loader::{CpuLoader, EngineLoader};
pub use serve::{RunningServer, Server, StartError};
