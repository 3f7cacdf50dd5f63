//! What the engines are judged by: a slow executor, and networks to run.
//!
//! Nothing here serves: tests, benchmarks and tools use it.

pub mod network_writer;
pub mod reference;
