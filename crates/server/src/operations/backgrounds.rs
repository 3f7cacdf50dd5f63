//! `/api/models/{model_id}/backgrounds/{index}`: `GetBackground` of one frame, as a JPEG, for pages that take
//! `region_only` frames over `/session`.
//!
//! It goes through the same gate as the call of the contract, under the same limits.

use std::time::Instant;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, header};
use lipsync::{call_error::code_name, v1};
use lipsync_serving::{ServeError, batch::Served};
use tokio::time::timeout;
use tonic::Code;

use super::{
    context::Context,
    unwritten,
    visitor::{self, Visitor},
};
use crate::{
    transport::Seat,
    wire::{headers::RequestHeaders, request::background_order, status::to_status},
};

/// How many background frames the model has.
pub(super) const N_BACKGROUNDS: HeaderName = HeaderName::from_static("x-background-frames");
const JPEG: HeaderValue = HeaderValue::from_static("image/jpeg");
/// A page asks for each frame once. Another avatar may get the same id, so it is not kept for long.
const KEEP: HeaderValue = HeaderValue::from_static("private, max-age=60");

/// One background frame.
pub(super) async fn one(
    State(context): State<Context>,
    Extension(seat): Extension<Seat>,
    Path((model_id, index)): Path<(String, String)>,
    mut visitor: Visitor,
) -> Response {
    let tenant = match visitor::tenant(&context, &visitor) {
        Ok(tenant) => tenant,
        Err(refusal) => return *refusal,
    };
    // A proxy's own, or the key, which has been looked at.
    visitor.headers.remove(header::AUTHORIZATION);
    let headers = RequestHeaders::read(&visitor.headers, &tenant, seat.peer, Instant::now());
    let limit = context.shared.hot().requests.request_timeout;
    let served = timeout(limit, frame(&context, &headers, &seat, (model_id, &index))).await;
    match served.unwrap_or(Err(ServeError::DeadlineExceeded)) {
        Ok(response) => response,
        Err(error) => refused(error),
    }
}

async fn frame(
    context: &Context,
    headers: &RequestHeaders,
    seat: &Seat,
    (model_id, index): (String, &str),
) -> Result<Response, ServeError> {
    let headers = headers.checked()?;
    let Ok(index) = index.parse() else {
        let text = "expected the number of a background frame";
        return Err(ServeError::invalid("background_indices", text));
    };
    let request = v1::GetBackgroundRequest {
        model_id,
        background_indices: vec![index],
        output: Some(v1::OutputOptions {
            format: v1::OutputFormat::Jpeg.into(),
            ..v1::OutputOptions::default()
        }),
    };
    let hot = context.shared.hot();
    let order = background_order(request, headers, &hot.output, 1)?;
    let batches = context.shared.batches(&hot);
    let Served { answer, room, .. } = batches
        .serve_backgrounds(&headers.caller, None, order)
        .await?;
    let data = answer.frames.into_iter().next().map(|coded| coded.data);
    let picture = unwritten::holding(room, data.unwrap_or_default().into(), seat);
    let mut response = Body::from(picture).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JPEG);
    headers.insert(header::CACHE_CONTROL, KEEP);
    headers.insert(N_BACKGROUNDS, answer.n_background_frames.into());
    Ok(response)
}

/// A refusal as HTTP has it, with the words of the contract.
pub(super) fn refused(error: ServeError) -> Response {
    let status = to_status(error);
    let http = match status.code() {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = format!("{}: {}\n", code_name(status.code()), status.message());
    (http, text).into_response()
}
