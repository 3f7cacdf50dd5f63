//! `POST /reload`: reads the configuration again, for administrators, or without tenants for whoever is on this machine.
//!
//! It carries no configuration: it says that the file has changed. Still it takes a moment of work, and its answer has
//! paths in it, so it is neither for other machines nor for pages, not even for those that may open sessions.

use std::time::SystemTime;

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, header};
use lipsync_core::{ModelId, saturate::millis};
use serde::Serialize;
use serde_json::json;

use super::{
    context::{Context, FRESH},
    origin,
    visitor::check_admin,
};
use crate::{
    reload::{Cause, Refusal, ReloadStats, Report},
    transport::Seat,
};

/// What has been reloaded since the start.
#[derive(Serialize)]
pub(super) struct Reloads {
    applied: u64,
    refused: u64,
    rolled_back: u64,
    on_trial: bool,
    last_applied_unix_ms: u64,
    needs_restart: Vec<&'static str>,
}

impl From<ReloadStats> for Reloads {
    /// Without the error, which may name paths: it is in the log and in the answer to `POST /reload`.
    fn from(stats: ReloadStats) -> Self {
        let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let last = stats.last_applied.and_then(since_epoch);
        Self {
            applied: stats.applied,
            refused: stats.refused,
            rolled_back: stats.rolled_back,
            on_trial: stats.on_trial,
            last_applied_unix_ms: last.map_or(0, millis),
            needs_restart: stats.needs_restart,
        }
    }
}

/// Reads the configuration again.
pub(super) async fn reload(
    State(context): State<Context>,
    Extension(seat): Extension<Seat>,
    headers: HeaderMap,
) -> Response {
    let has_keys = !context.shared.hot().tenants.is_empty();
    if !has_keys && !seat.address.ip().to_canonical().is_loopback() {
        let text = "POST /reload is taken only from this machine; send SIGHUP instead\n";
        return (StatusCode::FORBIDDEN, FRESH, text).into_response();
    }
    // A page has no business here, whichever it is but our own.
    if origin::check(&headers, &[]).is_err() {
        let text = "POST /reload is not for pages\n";
        return (StatusCode::FORBIDDEN, FRESH, text).into_response();
    }
    if let Err(refusal) = check_admin(&context, &headers) {
        return *refusal;
    }
    match context.shared.reload.reload(Cause::Request).await {
        Ok(report) => answer(StatusCode::OK, &applied(&report)),
        Err(refusal) => {
            let code = match refusal {
                Refusal::NoFile => StatusCode::NOT_FOUND,
                Refusal::Busy => StatusCode::CONFLICT,
                Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Empty { .. } | Refusal::Config { .. } | Refusal::Models(_) => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
            };
            answer(code, &refused(&refusal))
        }
    }
}

fn answer(code: StatusCode, value: &serde_json::Value) -> Response {
    const TYPE: HeaderValue = HeaderValue::from_static("application/json");
    let text = format!("{value}\n");
    (code, FRESH, [(header::CONTENT_TYPE, TYPE)], text).into_response()
}

fn applied(report: &Report) -> serde_json::Value {
    let ids = |ids: &[ModelId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "outcome": if report.is_news { "applied" } else { "unchanged" },
        "changed": report.changed,
        "needs_restart": report.needs_restart,
        "models": {
            "added": ids(&report.models.added),
            "changed": ids(&report.models.changed),
            "removed": ids(&report.models.removed),
        },
        "warnings": report.warnings,
    })
}

fn refused(refusal: &Refusal) -> serde_json::Value {
    let mut answer = json!({"outcome": "refused", "error": refusal.to_string()});
    if let Refusal::Config {
        error,
        excerpt,
        n_more,
    } = refusal
    {
        answer["error"] = error.as_str().into();
        answer["excerpt"] = excerpt.as_str().into();
        answer["more_errors"] = (*n_more).into();
    }
    answer
}
