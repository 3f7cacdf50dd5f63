//! What is where on the operations port, and what browsers may do with it.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use http::{HeaderName, HeaderValue, header};
use lipsync_serving::phase::Phase;

use super::{
    advice, api, assets, backgrounds,
    context::{Context, FRESH},
    cross_origin, metrics, openapi, pace, past, reload, resources, session, speech,
};
use crate::request_layer::Turns;

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

/// Declares what is where: as a router, and as a list.
macro_rules! routes {
    ($($path:literal: $($method:ident $handler:path),+;)*) => {
        fn routes() -> Router<Context> {
            Router::new()$(.route($path, MethodRouter::new()$(.$method($handler))+))*
        }

        /// Each path, with its methods.
        #[cfg(test)]
        const PATHS: &[(&str, &[&str])] = &[$(($path, &[$(stringify!($method)),+])),*];
    };
}

routes! {
    "/livez": get livez;
    "/readyz": get readyz;
    "/metrics": get metrics::metrics;
    "/resource-status": get resources::resource_status;
    "/gpu-status": get resources::gpu_status;
    "/openapi.json": get openapi::openapi;
    "/session": get session::open, post session::explain;
    "/reload": post reload::reload;
    "/api/models": get api::models;
    "/api/models/{model_id}/backgrounds/{index}": get backgrounds::one;
    "/api/stats": get api::stats;
    "/api/speech": get speech::limits, post speech::speak;
    "/api/history": get past::history;
    "/api/alerts": get past::alerts;
    "/api/advice": get advice::advice;
    "/api/adaptations": get past::adaptations;
}

/// Everything. Only `/api/speech` reads a request's body, a short one; any other that comes is not read.
/// `turns` are those of addresses, where they are told apart.
pub(super) fn router(context: Context, turns: Option<Arc<Turns>>) -> Router {
    routes()
        .fallback_service(get(assets::serve).with_state(()))
        .layer(from_fn_with_state(turns, pace::in_turn))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_every_path_and_no_other() {
        let file: serde_json::Value = serde_json::from_str(openapi::OPENAPI).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in file["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((path.as_str(), method.as_str()));
            }
        }
        // The page itself is what comes for all else.
        assert!(described.remove(&("/", "get")));
        let served = PATHS
            .iter()
            .flat_map(|(path, methods)| methods.iter().map(|m| (*path, *m)));
        assert_eq!(described, served.collect());
        assert_eq!(file["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
