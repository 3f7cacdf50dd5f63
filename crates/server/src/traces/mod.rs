//! Traces: what calls and sessions spent their time on, as spans for a collector of OpenTelemetry.
//!
//! A call that is traced has a [`Trace`], which takes its pieces as they pass and makes spans of them. They wait in a
//! bounded queue; an attendant ([`keep_exporting`]) sends them in batches. Nothing waits for it: spans that find the queue
//! full are dropped and counted. Without `traces.endpoint` there is none of this.

mod attributes;
mod exporter;
mod outbox;
mod parent;
mod trace;
mod tracer;

#[cfg(test)]
mod tests;

pub(crate) use exporter::{Spans, keep_exporting};
pub(crate) use trace::{Ending, Trace};
pub(crate) use tracer::Tracer;
