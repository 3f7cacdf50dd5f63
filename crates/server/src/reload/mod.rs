//! Another configuration for a server that runs.
//!
//! A signal, `POST /reload` and a changed file (`follow`) come together in [`Reloader`], one at a time. It reads the
//! file as the start did, puts all hot settings in place or, if anything is wrong, none, and names the cold keys that
//! differ. What runs is not touched: it keeps the settings that it began with. A new configuration is on `trial` for
//! a while, and taken back if calls fail or slow down under it.

mod figures;
mod follow;
mod good;
mod reloader;
mod report;
mod trial;

pub(crate) use follow::{follow, keep_judging};
pub use reloader::Reloader;
pub use report::{Cause, Refusal, ReloadStats, Report};
