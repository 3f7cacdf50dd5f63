//! The text that Prometheus scrapes, in two formats.
//!
//! Prometheus text 0.0.4 is what every scraper reads, OpenMetrics 1.0 what newer ones ask for. They differ in the names
//! of counters' families, in units, and in the end mark.

mod negotiation;
mod text;

use crate::HistogramSnapshot;
use text::{bound_text, number_text, push_escaped};

/// What the text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows. Its name ends with `_total`.
    Counter,
    /// It only grows, but another program chose its name, which has no `_total`. OpenMetrics knows no such counter: there
    /// it is of unknown kind.
    BareCounter,
    /// It goes up and down.
    Gauge,
    /// Observations by size.
    Histogram,
    /// Always 1: its labels are what it says. Its name ends with `_info`.
    Info,
}

/// A metric: what its samples have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in Prometheus text, with the unit and `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of the labels of each sample, in order.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// Units that names may end with.
const UNITS: [&str; 5] = ["seconds", "bytes", "ratio", "celsius", "watts"];

impl Metric {
    /// The unit that the name ends with; `None` for plain numbers.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.bare_name().rsplit_once('_')?;
        UNITS.into_iter().find(|unit| *unit == last)
    }

    /// The name without the ending that stands for the kind.
    fn bare_name(&self) -> &'static str {
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram | Kind::BareCounter => "",
        };
        self.name.strip_suffix(ending).unwrap_or(self.name)
    }
}

/// The number of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any number.
    Real(f64),
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Whole(n)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Real(n)
    }
}

/// Text that is being written, metric by metric.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

/// One metric of an [`Exposition`], sample by sample.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Exposition,
    metric: &'a Metric,
}

impl Exposition {
    /// An empty text.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            text: String::with_capacity(64 << 10),
        }
    }

    /// Begins a metric. Each may be begun once.
    pub fn family<'a>(&'a mut self, metric: &'a Metric) -> Family<'a> {
        let is_open = self.format == Format::OpenMetrics;
        let name = if is_open {
            metric.bare_name()
        } else {
            metric.name
        };
        let kind = match metric.kind {
            Kind::BareCounter if is_open => "unknown",
            Kind::Counter | Kind::BareCounter => "counter",
            Kind::Histogram => "histogram",
            Kind::Info if is_open => "info",
            Kind::Gauge | Kind::Info => "gauge",
        };
        self.push(&["# TYPE ", name, " ", kind, "\n"]);
        if is_open && let Some(unit) = metric.unit() {
            self.push(&["# UNIT ", name, " ", unit, "\n"]);
        }
        self.push(&["# HELP ", name, " "]);
        push_escaped(&mut self.text, metric.help, is_open);
        self.text.push('\n');
        Family { page: self, metric }
    }

    /// The whole text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn push(&mut self, parts: &[&str]) {
        self.text.extend(parts.iter().copied());
    }
}

impl Family<'_> {
    /// Adds a sample. `labels` are the values of the metric's labels, in order.
    pub fn sample(&mut self, labels: &[&str], value: impl Into<Value>) -> &mut Self {
        self.line("", labels, None, value.into());
        self
    }

    /// Adds a histogram with these values of the metric's labels.
    pub fn histogram(&mut self, labels: &[&str], histogram: &HistogramSnapshot) -> &mut Self {
        let per_unit = histogram.buckets.per_unit;
        for (bound, n) in histogram.cumulative() {
            let bound = bound_text(bound, per_unit);
            self.line("_bucket", labels, Some(&bound), Value::Whole(n));
        }
        let sum = histogram.sum as f64 / per_unit as f64;
        self.line("_sum", labels, None, Value::Real(sum));
        self.line("_count", labels, None, Value::Whole(histogram.count()));
        self
    }

    fn line(&mut self, ending: &str, values: &[&str], le: Option<&str>, value: Value) {
        let Self { page, metric } = self;
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        page.push(&[metric.name, ending]);
        let labels = metric.labels.iter().copied().zip(values.iter().copied());
        let mut mark = '{';
        for (name, value) in labels.chain(le.map(|le| ("le", le))) {
            page.text.push(mark);
            page.push(&[name, "=\""]);
            push_escaped(&mut page.text, value, true);
            page.text.push('"');
            mark = ',';
        }
        if mark == ',' {
            page.text.push('}');
        }
        page.push(&[" ", &number_text(value), "\n"]);
    }
}

#[cfg(test)]
mod tests;
