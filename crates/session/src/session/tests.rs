//! Sessions played on a stage of their own time: a day takes moments, and every moment is known.

mod interruption;
mod pacing;
mod resume;
mod stage;
mod stalls;
