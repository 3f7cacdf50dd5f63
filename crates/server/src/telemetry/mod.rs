//! What the edges count, and the one snapshot of all figures.
//!
//! Calls and bytes are counted here; frames, sessions and stages in [`lipsync_serving::telemetry`]; jobs in the pool;
//! loads and caches in the registry. [`Snapshot`] reads all of it. The statistics of the contract, the page's JSON and
//! `/metrics` are three ways to show it, and none of them counts anything.

mod call;
mod edge;
mod grpc;
mod process;
mod refusals;
mod snapshot;
mod traffic;

pub(crate) use call::{CALLS, CallEnd, CallKind};
pub use edge::EdgeFigures;
pub(crate) use refusals::RefusalLog;
pub(crate) use snapshot::{Details, PortFigures, Snapshot};
pub use traffic::Traffic;
