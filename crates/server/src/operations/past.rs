//! `/api/history` and `/api/alerts`: the last days, and what is wrong now.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use lipsync_telemetry::{SCALES, Step};
use serde::Serialize;

use super::{
    api::{json, text, written},
    context::Context,
    visitor::check_admin,
};
use crate::telemetry::{AlarmStatus, FIGURES, N_FIGURES as N};

/// Steps of one scale. `null` where a figure was not known.
#[derive(Serialize)]
struct Past {
    scale: String,
    /// When each step began, seconds since the Unix epoch.
    at_s: Vec<u64>,
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Figure {
    name: &'static str,
    means: Vec<Option<f32>>,
    peaks: Vec<Option<f32>>,
}

#[derive(Serialize)]
struct Alert {
    name: &'static str,
    figure: &'static str,
    /// `null` where all is well.
    severity: Option<&'static str>,
    value: Option<f64>,
    since_s: u64,
}

/// `?scale=1s` (the default), `10s` or `5m`.
pub(super) async fn history(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = check_admin(&context, &headers) {
        return *refusal;
    }
    let query = query.unwrap_or_default();
    let scale = match query.as_str() {
        "" => "1s",
        query => query.strip_prefix("scale=").unwrap_or_default(),
    };
    let Some(place) = SCALES.iter().position(|known| known.name == scale) else {
        let text = "expected no query, or scale=1s, scale=10s or scale=5m\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let shared = Arc::clone(&context.shared);
    // A week is a megabyte of numbers.
    let write = move || {
        let scale = SCALES[place].name;
        let steps = shared.past.steps(scale).unwrap_or_default();
        text(&Past::new(scale.to_owned(), &steps))
    };
    written(context.pages.history[place].page(write).await)
}

impl Past {
    fn new(scale: String, steps: &[Step<N>]) -> Self {
        let known = |figure: f32| figure.is_finite().then_some(figure);
        let figures = FIGURES.iter().enumerate().map(|(n, name)| Figure {
            name,
            means: steps.iter().map(|step| known(step.means[n])).collect(),
            peaks: steps.iter().map(|step| known(step.peaks[n])).collect(),
        });
        Self {
            scale,
            at_s: steps.iter().map(|step| step.at_s).collect(),
            figures: figures.collect(),
        }
    }
}

/// All alerts; those that are raised have a severity.
pub(super) async fn alerts(State(context): State<Context>, headers: HeaderMap) -> Response {
    if let Err(refusal) = check_admin(&context, &headers) {
        return *refusal;
    }
    let alarms = context.shared.past.alarms();
    let alert = |alarm: &AlarmStatus| Alert {
        name: alarm.name,
        figure: alarm.figure,
        severity: alarm.severity.map(|severity| severity.name()),
        value: alarm.value.is_finite().then_some(alarm.value),
        since_s: alarm.since_s,
    };
    json(&alarms.iter().map(alert).collect::<Vec<_>>())
}
