//! What the edges count, and the one snapshot of all figures.
//!
//! Calls and bytes are counted here; frames, sessions and stages in [`lipsync_serving::telemetry`]; jobs in the pool;
//! loads and caches in the registry. `Snapshot` reads all of it. The statistics of the contract, the page's JSON and
//! `/metrics` are three ways to show it, and none of them counts anything.

mod advice;
mod alarms;
mod call;
mod edge;
mod grpc;
mod history_keeper;
mod memory;
mod now;
mod past;
mod poster;
mod process;
mod recent;
mod refusals;
mod sample;
mod sampler;
mod snapshot;
mod traffic;

pub(crate) use advice::{Counsel, Setting};
pub(crate) use alarms::AlarmStatus;
pub(crate) use call::{CALLS, CallEnd, CallKind};
pub use edge::EdgeFigures;
pub(crate) use history_keeper::{keep_history, read_history, save_history};
pub(crate) use memory::{Memory, MemoryFigures};
pub use past::Past;
pub(crate) use past::{FIGURES, N as N_FIGURES};
pub(crate) use poster::{Mailbag, Poster, keep_posting};
pub(crate) use process::ProcessFigures;
pub(crate) use refusals::RefusalLog;
pub(crate) use sampler::keep_sampling;
pub(crate) use snapshot::{Details, PortFigures, Snapshot};
pub use traffic::Traffic;
