//! `/api/advice`: which keys of the configuration to change, and what was measured that says so.

use axum::{extract::State, response::Response};
use serde::{Serialize, Serializer};

use super::{
    api::json,
    context::Context,
    visitor::{Visitor, check_admin},
};
use crate::{
    config::{Heat, keys},
    telemetry::{Counsel, Setting},
};

/// One piece of advice.
#[derive(Serialize)]
struct Advice {
    key: &'static str,
    from: Value,
    to: Value,
    cause: String,
    /// Whether the new value takes effect only with the next start.
    needs_restart: bool,
    since_s: u64,
}

/// A number or a word.
struct Value(Setting);

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Setting::Number(n) => serializer.serialize_u64(n),
            Setting::Tenths(n) => serializer.serialize_f64(n as f64 / 10.0),
            Setting::Word(word) => serializer.serialize_str(word),
        }
    }
}

/// All advice that holds; it may be none.
pub(super) async fn advice(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let counsels = context.shared.past.counsels().into_iter();
    json(&counsels.map(Advice::from).collect::<Vec<_>>())
}

impl From<Counsel> for Advice {
    fn from(counsel: Counsel) -> Self {
        let advice = counsel.advice;
        let mut known = keys();
        Self {
            key: advice.key,
            from: Value(advice.from),
            to: Value(advice.to),
            cause: advice.cause,
            needs_restart: known.any(|(key, heat)| key == advice.key && heat == Heat::Cold),
            since_s: counsel.since_s,
        }
    }
}
