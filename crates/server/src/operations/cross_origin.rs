//! What pages of `operations.allowed_origins` may do beyond opening sessions: read answers, and import the client's
//! modules. Other pages' browsers keep answers from them.

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, header};

use super::{backgrounds::N_BACKGROUNDS, context::Context};

/// Names an allowed page in the answer. With a key, browsers ask first whether the page may send it.
pub(super) async fn allow(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| is_allowed(&context, origin));
    let asks_first = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks_first && allowed.is_some() {
        let may = [(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization")];
        (StatusCode::NO_CONTENT, may).into_response()
    } else {
        next.run(request).await
    };
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
