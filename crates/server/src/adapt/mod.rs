//! What the server changes by itself while it runs, and the record of that.
//!
//! Each part is a state machine that is told figures, and a task that does what it says. Every act is an [`Event`] with its
//! reason: a line in the log, a count in `/metrics`, and an entry of `/api/adaptations`.
//!
//! | state machine | task | does |
//! |---|---|---|
//! | `lipsync_worker_pool::scaling` | `workers` | has workers join and leave |
//! | `watch` | `watching` | smaller batches, no work of low priority, smaller caches |
//! | `forecast` | `predicting` | loads models before they are needed, tells how many workers will be |

mod events;
mod forecast;
mod outlook;
mod predicting;
mod watch;
mod watching;
mod workers;

pub use events::{Event, Events};
pub(crate) use outlook::Expected;
pub use outlook::Outlook;
pub(crate) use predicting::keep_predicting;
pub use watch::WatchRules;
pub(crate) use watching::keep_watching;
pub(crate) use workers::{have_workers, keep_scaling};
