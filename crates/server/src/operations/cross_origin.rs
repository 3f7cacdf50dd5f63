//! What pages of `operations.allowed_origins` may do beyond opening sessions: read answers, and import the client's
//! modules. Other pages' browsers keep answers from them.

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue, header};

use super::{backgrounds::N_BACKGROUNDS, context::Context};

/// Names an allowed page in the answer. It asks for nothing that browsers would want a preflight for.
pub(super) async fn allow(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::POST);
    let mut response = next.run(request).await;
    let allowed = origin.filter(|origin| is_read && is_allowed(&context, origin));
    let headers = response.headers_mut();
    // A cache in between must not give one page's answer to another.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from(N_BACKGROUNDS),
        );
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
    }
    response
}

fn is_allowed(context: &Context, origin: &HeaderValue) -> bool {
    let allowed = &context.allowed_origins;
    origin.to_str().is_ok_and(|origin| {
        allowed
            .iter()
            .any(|allowed| allowed.as_str().eq_ignore_ascii_case(origin))
    })
}
