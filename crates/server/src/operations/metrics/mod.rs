//! `/metrics`: every figure of the server, for Prometheus.

mod names;
mod page;
mod triton;

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use lipsync_telemetry::Format;

use super::{
    context::{Context, FRESH},
    visitor::{Visitor, check_admin},
};
use crate::telemetry::{Details, Snapshot};

/// In the format that the scraper asks for. Where there are tenants, the key of an administrator opens it.
pub(super) async fn metrics(State(context): State<Context>, visitor: Visitor) -> Response {
    if let Err(refusal) = check_admin(&context, &visitor) {
        return *refusal;
    }
    let accept = visitor.headers.get(header::ACCEPT).map(HeaderValue::to_str);
    let format = Format::negotiated(accept.and_then(Result::ok).unwrap_or_default());
    let shared = Arc::clone(&context.shared);
    // It asks the system, and writes a few hundred kilobytes where there are many models and tenants.
    let write = move || {
        let (snapshot, details) = (Snapshot::take(&shared), Details::take(&shared));
        page::write(&snapshot, &details, &shared.reload.stats(), format).into_bytes()
    };
    let page = &context.pages.metrics[usize::from(format == Format::OpenMetrics)];
    match page.page(write).await {
        Ok(text) => {
            let media = HeaderValue::from_static(format.content_type());
            (FRESH, [(header::CONTENT_TYPE, media)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
