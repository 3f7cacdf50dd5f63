//! `/api/history`, `/api/alerts` and `/api/adaptations`: the last days, what is wrong now, and what the server has done
//! about it.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use lipsync_telemetry::{SCALES, Step};
use serde::Serialize;

use super::{
    api::{json, text, written},
    context::Context,
    visitor::{Visitor, check_admin},
};
use crate::telemetry::{AlarmStatus, FIGURES, N_FIGURES as N};

/// Steps that are written for each who asks. More of them are in the one page of all who ask at that time.
const NEWEST: usize = 60;

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

/// What of the past is asked for.
struct Wanted<'a> {
    scale: &'a str,
    /// Only steps that began later, seconds since the Unix epoch.
    since_s: u64,
}

impl<'a> Wanted<'a> {
    /// `None` of a query that is not known.
    fn read(query: &'a str) -> Option<Self> {
        let mut wanted = Self {
            scale: "1s",
            since_s: 0,
        };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=')? {
                ("scale", scale) => wanted.scale = scale,
                ("since_s", since) => wanted.since_s = since.parse().ok()?,
                _ => return None,
            }
        }
        Some(wanted)
    }
}

/// `?scale=1s` (the default), `10s` or `5m`; with `&since_s=` only what began after that time, unless that is more
/// than [`NEWEST`] steps.
pub(super) async fn history(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let query = query.unwrap_or_default();
    let Some((place, since_s)) = Wanted::read(&query).and_then(|wanted| {
        let place = SCALES.iter().position(|known| known.name == wanted.scale)?;
        Some((place, wanted.since_s))
    }) else {
        let text = "expected scale=1s (the default), scale=10s or scale=5m, and perhaps since_s=<seconds since 1970>\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    let shared = Arc::clone(&context.shared);
    if since_s > 0
        && let Some(steps) = shared.past.newest(SCALES[place].name, NEWEST, since_s)
    {
        return json(&Past::new(SCALES[place].name.to_owned(), &steps));
    }
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
pub(super) async fn alerts(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
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

/// A change that the server made by itself.
#[derive(Serialize)]
struct Adaptation {
    at_s: u64,
    act: &'static str,
    reason: &'static str,
    text: String,
}

/// The last changes that the server made by itself, the oldest first.
pub(super) async fn adaptations(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let events = context.shared.events.latest();
    let events = events.into_iter().map(|event| Adaptation {
        at_s: event.at_s,
        act: event.act,
        reason: event.reason,
        text: event.text,
    });
    json(&events.collect::<Vec<_>>())
}
