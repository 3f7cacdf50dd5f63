//! The server: the edges around the serving core, and the process.
//!
//! What only this crate knows: how the wire maps to the core's own words and back (`wire`), how connections and
//! calls come in (`transport`, `request_layer`), what `config.yaml` says, and how a process starts and ends. The
//! binary is a thin shell around [`Server`]; integration tests start the same thing in-process on port 0. What a
//! call or a session is once it is let in is for [`lipsync_serving`] to know; a call comes to it through
//! [`service`], and what browsers and probes see is in `operations`.
#![forbid(unsafe_code)]
// `eprintln!` panics if standard error is gone, and blocks if nobody reads it.
#![deny(clippy::print_stderr)]

pub mod adapt;
pub mod avatar_check;
pub mod banner;
pub mod busy;
pub mod capacity_plan;
pub mod capacity_reading;
mod cgroup;
mod change;
pub mod comparison;
pub mod config;
pub mod core_state;
pub mod devices;
mod file;
mod first_bytes;
pub mod gpus;
pub mod health;
mod heap_keeper;
mod http_post;
pub mod legacy;
mod listen;
pub mod loader;
pub mod meaning;
mod named_file;
pub mod open_inference;
mod operations;
pub mod output;
pub mod process;
pub mod reload;
pub mod request_layer;
pub mod resume_token;
mod routes;
mod samples;
mod seam;
pub mod serve;
pub mod service;
pub mod telemetry;
pub mod tenants;
pub mod tls;
mod traces;
mod transport;
pub mod tune;
mod whole_file;
pub mod wire;

pub use config::Config;
pub use devices::DeviceRefused;
pub use loader::{CpuLoader, EngineLoader};
pub use serve::{RunningServer, Server, StartError};
