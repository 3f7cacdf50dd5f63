//! `POST /reload`: reads the configuration again, for administrators, or without tenants for whoever is on this machine.
//!
//! It carries no configuration: it says that the file has changed. Still it takes a moment of work, and its answer has
//! paths in it, so it is neither for other machines nor for pages, not even for those that may open sessions.

use std::{net::IpAddr, time::SystemTime};

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Version, header, uri::Authority};
use lipsync_core::{ModelId, saturate::millis};
use serde::Serialize;
use serde_json::json;

use super::{
    context::{Context, FRESH},
    origin,
    visitor::{Visitor, check_admin},
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
    version: Version,
    visitor: Visitor,
) -> Response {
    let headers = &visitor.headers;
    let has_keys = !context.shared.hot().tenants.is_empty();
    if !has_keys && !is_of_this_machine(&seat, version, headers) {
        let text = "POST /reload is taken only from this machine, and through no proxy; send SIGHUP instead\n";
        return (StatusCode::FORBIDDEN, FRESH, text).into_response();
    }
    // A page has no business here, whichever it is but our own.
    if origin::check(headers, &[]).is_err() {
        let text = "POST /reload is not for pages\n";
        return (StatusCode::FORBIDDEN, FRESH, text).into_response();
    }
    if let Err(refusal) = check_admin(&context, &visitor) {
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

/// Whether somebody on this machine asks. Through a proxy on this machine everybody has its address, but the request
/// tells: by the name of the server that was asked, by what the proxy adds, or (nginx, unless it is told otherwise) by
/// the version of HTTP. The name also tells pages of other sites that have made theirs stand for this address.
fn is_of_this_machine(seat: &Seat, version: Version, headers: &HeaderMap) -> bool {
    const OF_PROXIES: [&str; 5] = [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
    ];
    let is_forwarded = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host: Option<Authority> = host.and_then(|host| host.parse().ok());
    let is_local = host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        let address: Option<IpAddr> = name.parse().ok();
        name.eq_ignore_ascii_case("localhost")
            || address.is_some_and(|address| address.to_canonical().is_loopback())
    });
    let is_direct = version >= Version::HTTP_11 && !is_forwarded;
    seat.address.ip().to_canonical().is_loopback() && is_local && is_direct
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
