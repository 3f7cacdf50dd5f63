//! What is where on the operations port, and what browsers may do with it.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderName, HeaderValue, header};
use lipsync_serving::phase::Phase;

use super::{
    api, assets, backgrounds,
    context::{Context, FRESH},
    cross_origin, metrics, past, reload, session,
};

/// On every answer. The page is its own files and nothing else: no inline script, in no other page's frame.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("microphone=(self), camera=(), geolocation=()"),
    ),
];

/// Everything. No handler reads a request's body; one that comes all the same is not read either.
pub(super) fn router(context: Context) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/session", get(session::open).post(session::explain))
        .route("/reload", post(reload::reload))
        .route("/api/models", get(api::models))
        .route(
            "/api/models/{model_id}/backgrounds/{index}",
            get(backgrounds::one),
        )
        .route("/api/stats", get(api::stats))
        .route("/api/history", get(past::history))
        .route("/api/alerts", get(past::alerts))
        .fallback_service(get(assets::serve).with_state(()))
        .layer(map_response(with_headers))
        // Outside: it takes back one of those headers.
        .layer(from_fn_with_state(context.clone(), cross_origin::allow))
        .with_state(context)
}

async fn livez(State(context): State<Context>) -> impl IntoResponse {
    let lost = context.shared.pipeline.workers.lost_device();
    match *lost.borrow() {
        None => (StatusCode::OK, FRESH, "alive\n"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, FRESH, "a device is lost\n"),
    }
}

async fn readyz(State(context): State<Context>) -> impl IntoResponse {
    let (status, text) = match *context.shared.phase.borrow() {
        Phase::Serving => (StatusCode::OK, "serving\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Leaving => (StatusCode::SERVICE_UNAVAILABLE, "leaving\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    (status, FRESH, text)
}

async fn with_headers(mut response: Response) -> Response {
    response.headers_mut().extend(HEADERS);
    response
}
