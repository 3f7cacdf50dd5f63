//! The book of figures: what is counted about calls, sessions and the stages of frames.
//!
//! The parts count where something happens, in instruments that take no lock. What the pool, the registry and the
//! gate count about themselves stays with them. The edges read all of it into one snapshot, and show that: nothing is
//! rendered here.

mod book;
mod models;
mod outcome;
mod passage;
mod session_clock;
mod stages;
mod tally;

pub use book::{Book, TenantFigures};
pub(crate) use models::CallTimes;
pub use models::{AnsweredCalls, ModelFigures};
pub use outcome::Outcome;
pub use passage::{Passage, Spent, Witness};
pub use session_clock::SessionClock;
pub use stages::{Stage, StageClocks, StageTime};
pub use tally::Tally;
