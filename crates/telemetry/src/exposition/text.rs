//! Numbers and strings as both formats write them.

use super::Value;

/// Appends text with its special characters escaped; quotes only where they would end the text.
pub(super) fn push_escaped(to: &mut String, text: &str, with_quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if with_quotes => to.push_str("\\\""),
            c => to.push(c),
        }
    }
}

/// A number, as parsers of both formats read it.
pub(super) fn number_text(value: Value) -> String {
    match value {
        Value::Whole(n) => n.to_string(),
        Value::Real(x) if x.is_nan() => "NaN".to_owned(),
        Value::Real(x) if x.is_infinite() => if x > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        Value::Real(x) => x.to_string(),
    }
}

/// A bucket's bound in the metric's unit. OpenMetrics wants these to be floats in their canonical form, and scrapers
/// take them for text: both formats must write them alike.
pub(super) fn bound_text(bound: Option<u64>, per_unit: u64) -> String {
    match bound {
        None => "+Inf".to_owned(),
        Some(bound) => format!("{:?}", bound as f64 / per_unit as f64),
    }
}
