//! `/openapi.json`: what all these addresses take and give, for machines.
//!
//! The file is written by hand. Tests compare its paths with the router, and its schemas with answers;
//! `tools/openapi-check` has it judged by a validator of the standard.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};

/// The file.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// It holds as long as the binary; a page of another version may have another one.
pub(super) async fn openapi() -> Response {
    const TYPE: HeaderValue = HeaderValue::from_static("application/json");
    const KEEP: HeaderValue = HeaderValue::from_static("no-cache");
    let headers = [(header::CONTENT_TYPE, TYPE), (header::CACHE_CONTROL, KEEP)];
    (headers, OPENAPI).into_response()
}
