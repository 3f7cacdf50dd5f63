//! What the edges count, and the one snapshot of all figures.
//!
//! Calls and bytes are counted here; frames, sessions and stages in [`lipsync_serving::telemetry`]; jobs in the pool;
//! loads and caches in the registry. `Snapshot` reads all of it. The statistics of the contract, the page's JSON and
//! `/metrics` are three ways to show it, and none of them counts anything.

mod alarms;
mod call;
mod edge;
mod grpc;
mod past;
mod process;
mod refusals;
mod sampler;
mod snapshot;
mod traffic;

pub(crate) use alarms::AlarmStatus;
pub(crate) use call::{CALLS, CallEnd, CallKind};
pub use edge::EdgeFigures;
pub use past::Past;
pub(crate) use past::{FIGURES, N as N_FIGURES};
pub(crate) use refusals::RefusalLog;
pub(crate) use sampler::keep_sampling;
pub(crate) use snapshot::{Details, PortFigures, Snapshot};
pub use traffic::Traffic;
