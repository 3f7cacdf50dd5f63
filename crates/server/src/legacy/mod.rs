//! Protocols of the Go servers that came before this one, so that their clients need no change.
//!
//! Requests become the same orders as those of `lipsync.v1`, and pass the same gate. Errors of a request are told as
//! those servers told them: in the message, with `success = false`. Who is not let in at all (no key, no room, too
//! late) gets a status, as with every other method. docs/legacy-clients.md describes what is different. Of what those
//! servers did not do (live sessions, formats, priorities) nothing is here.

mod compositing;
mod frames;
mod models;
mod monolithic;
mod multi_tenant;
mod numbers;
mod order;

pub use compositing::CompositingLegacy;
pub use monolithic::MonolithicLegacy;
pub use multi_tenant::MultiTenantLegacy;
