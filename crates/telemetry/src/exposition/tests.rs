use proptest::prelude::*;

use super::*;
use crate::{Buckets, Histogram};

const WAIT: Metric = Metric {
    name: "a_wait_seconds",
    kind: Kind::Histogram,
    labels: &["who"],
    help: "How long \"they\" wait.",
};
const SENT: Metric = Metric {
    name: "a_sent_bytes_total",
    kind: Kind::Counter,
    labels: &["to", "port"],
    help: "Back\\slash\nand line.",
};
const BUILD: Metric = Metric {
    name: "a_build_info",
    kind: Kind::Info,
    labels: &["version"],
    help: "The version.",
};
const CALLS: Metric = Metric {
    name: "their_calls",
    kind: Kind::BareCounter,
    labels: &[],
    help: "Calls.",
};
const SHARE: Metric = Metric {
    name: "a_busy_ratio",
    kind: Kind::Gauge,
    labels: &[],
    help: "Busy.",
};

fn page(format: Format) -> String {
    static BUCKETS: Buckets = Buckets {
        bounds: &[1_000, 2_500_000, 10_000_000],
        per_unit: 1_000_000,
    };
    let histogram = Histogram::new(&BUCKETS);
    for n in [1_000, 1_001, 20_000_000] {
        histogram.observe(n);
    }
    let mut page = Exposition::new(format);
    page.family(&WAIT).histogram(&["x"], &histogram.snapshot());
    page.family(&SENT)
        .sample(&["a\"b", "c\\d\n"], u64::MAX)
        .sample(&["", ""], 0_u64);
    page.family(&BUILD).sample(&["1.0"], 1_u64);
    page.family(&SHARE).sample(&[], 0.25);
    page.family(&CALLS).sample(&[], 7_u64);
    page.finish()
}

#[test]
fn prometheus_text() {
    assert_eq!(
        page(Format::Prometheus),
        r#"# TYPE a_wait_seconds histogram
# HELP a_wait_seconds How long "they" wait.
a_wait_seconds_bucket{who="x",le="0.001"} 1
a_wait_seconds_bucket{who="x",le="2.5"} 2
a_wait_seconds_bucket{who="x",le="10.0"} 2
a_wait_seconds_bucket{who="x",le="+Inf"} 3
a_wait_seconds_sum{who="x"} 20.002001
a_wait_seconds_count{who="x"} 3
# TYPE a_sent_bytes_total counter
# HELP a_sent_bytes_total Back\\slash\nand line.
a_sent_bytes_total{to="a\"b",port="c\\d\n"} 18446744073709551615
a_sent_bytes_total{to="",port=""} 0
# TYPE a_build_info gauge
# HELP a_build_info The version.
a_build_info{version="1.0"} 1
# TYPE a_busy_ratio gauge
# HELP a_busy_ratio Busy.
a_busy_ratio 0.25
# TYPE their_calls counter
# HELP their_calls Calls.
their_calls 7
"#
    );
}

#[test]
fn open_metrics() {
    assert_eq!(
        page(Format::OpenMetrics),
        r#"# TYPE a_wait_seconds histogram
# UNIT a_wait_seconds seconds
# HELP a_wait_seconds How long \"they\" wait.
a_wait_seconds_bucket{who="x",le="0.001"} 1
a_wait_seconds_bucket{who="x",le="2.5"} 2
a_wait_seconds_bucket{who="x",le="10.0"} 2
a_wait_seconds_bucket{who="x",le="+Inf"} 3
a_wait_seconds_sum{who="x"} 20.002001
a_wait_seconds_count{who="x"} 3
# TYPE a_sent_bytes counter
# UNIT a_sent_bytes bytes
# HELP a_sent_bytes Back\\slash\nand line.
a_sent_bytes_total{to="a\"b",port="c\\d\n"} 18446744073709551615
a_sent_bytes_total{to="",port=""} 0
# TYPE a_build info
# HELP a_build The version.
a_build_info{version="1.0"} 1
# TYPE a_busy_ratio gauge
# UNIT a_busy_ratio ratio
# HELP a_busy_ratio Busy.
a_busy_ratio 0.25
# TYPE their_calls unknown
# HELP their_calls Calls.
their_calls 7
# EOF
"#
    );
}

#[test]
fn numbers_that_are_none_are_words() {
    for (x, text) in [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (-0.5, "-0.5"),
        (3.0, "3"),
    ] {
        assert_eq!(number_text(Value::Real(x)), text);
    }
}

/// The label's value as a parser reads it back.
fn unescaped(text: &str) -> Option<String> {
    let mut read = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        read.push(match c {
            '"' | '\n' => return None,
            '\\' => match chars.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(read)
}

proptest! {
    #[test]
    fn no_label_breaks_out_of_its_quotes(label in "(\\PC|[\\\\\"\n{},= ]){0,40}") {
        let mut page = Exposition::new(Format::Prometheus);
        page.family(&BUILD).sample(&[&label], 1_u64);
        let text = page.finish();
        let line = text.lines().last().unwrap_or_default();
        prop_assert_eq!(text.lines().count(), 3);
        let value = line.strip_prefix("a_build_info{version=\"");
        let value = value.and_then(|line| line.strip_suffix("\"} 1"));
        prop_assert_eq!(value.and_then(unescaped), Some(label));
    }
}
