//! What the server writes to standard error and standard output, without ever waiting for them.
//!
//! A disk is full, nobody reads a pipe, a terminal is gone: that may cost lines, and nothing else. So lines go
//! into a bounded queue, and one thread for each stream (`writer`) is all that blocks or fails. What does not
//! fit or cannot be written is dropped and counted, and the count stands in the log once it can be written
//! again. `limit` keeps clients from filling it, `log` puts all that together for `tracing` and for panics.
//!
//! Commands that answer and end do not use this: they wait for whoever reads them.

mod limit;
mod lines;
mod log;
mod queue;
mod record;
mod writer;

pub use lines::Output;
pub use log::Log;
