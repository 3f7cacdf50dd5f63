//! Who asks on this port, where there are tenants: the key comes in the header `authorization`.

use std::{sync::Arc, time::SystemTime};

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use lipsync_serving::{ServeError, caller::Caller, peer::Peer};

use super::context::{Context, FRESH};
use crate::tenants::{Shown, Tenant};

/// Refuses whoever may not see figures of all tenants together.
pub(super) fn check_admin(context: &Context, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let caller = caller(context, headers)?;
    caller.check_admin().map_err(|refusal| {
        let text = format!("{refusal}\n");
        Box::new((StatusCode::FORBIDDEN, FRESH, text).into_response())
    })
}

/// Who asks, as far as figures and lists are concerned.
pub(super) fn caller(context: &Context, headers: &HeaderMap) -> Result<Caller, Box<Response>> {
    Ok(tenant(context, headers)?.caller(Peer::UNKNOWN))
}

/// The tenant whose key comes with a request.
pub(super) fn tenant(context: &Context, headers: &HeaderMap) -> Result<Arc<Tenant>, Box<Response>> {
    let tenants = context.shared.hot().tenants.clone();
    let found = tenants.identify(Shown::in_headers(headers), false, SystemTime::now());
    found.map_err(|refusal| Box::new(unauthorized(&refusal)))
}

/// The answer to whoever is not known. It names the scheme, as HTTP wants it.
fn unauthorized(refusal: &ServeError) -> Response {
    let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
    let text = format!("{refusal}\n");
    (StatusCode::UNAUTHORIZED, FRESH, scheme, text).into_response()
}
