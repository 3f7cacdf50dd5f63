//! What spans say of themselves.

use lipsync::otlp::common::v1::{AnyValue, KeyValue, any_value::Value};

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A number; larger ones than the protocol has are its largest.
pub(super) fn number(key: &str, n: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(n).unwrap_or(i64::MAX)))
}
