//! The instruments of the book of figures, and the text form in which Prometheus reads them.
//!
//! [`Counter`], [`Gauge`] and [`Histogram`] are a few atomics each: to count takes no lock and no memory, so every
//! part of the server can count where something happens. A [`Table`] keeps instruments by their labels and is bounded.
//! [`Exposition`] writes samples in Prometheus text or in OpenMetrics. [`History`] keeps the past of some figures.
//!
//! This crate knows nothing of the server: no names of metrics, no labels, no I/O. The parts own their instruments;
//! the server reads all of them into one snapshot, and renders that.
#![forbid(unsafe_code)]

mod alarm;
mod exposition;
mod histogram;
mod history;
mod history_file;
mod instrument;
mod table;

pub use alarm::{Alarm, Rule, Severity, Side};
pub use exposition::{Exposition, Family, Format, Kind, Metric, Value};
pub use histogram::{Buckets, Histogram, HistogramSnapshot};
pub use history::{History, SCALES, Scale, Step};
pub use history_file::Unreadable;
pub use instrument::{Counter, Gauge, Rise};
pub use table::{OTHER, Table};
