//! Who asks on this port, where there are tenants: the key comes in the header `authorization`, or the connection has the
//! certificate of a tenant.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, header, request::Parts};
use lipsync_serving::{ServeError, caller::Caller, peer::Peer};

use super::context::{Context, FRESH};
use crate::{
    tenants::{Shown, Tenant},
    tls::ClientName,
    transport::Seat,
};

/// What a request shows of who sent it.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) headers: HeaderMap,
    certificate: Option<ClientName>,
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let seat = parts.extensions.get::<Seat>();
        Ok(Self {
            certificate: seat.and_then(|seat| seat.client.clone()),
            headers: parts.headers.clone(),
        })
    }
}

/// Refuses whoever may not see figures of all tenants together.
pub(super) fn check_admin(context: &Context, visitor: &Visitor) -> Result<(), Box<Response>> {
    let caller = caller(context, visitor)?;
    caller.check_admin().map_err(|refusal| {
        let text = format!("{refusal}\n");
        Box::new((StatusCode::FORBIDDEN, FRESH, text).into_response())
    })
}

/// Who asks, as far as figures and lists are concerned.
pub(super) fn caller(context: &Context, visitor: &Visitor) -> Result<Caller, Box<Response>> {
    Ok(tenant(context, visitor)?.caller(Peer::UNKNOWN))
}

/// The tenant whose key comes with a request.
pub(super) fn tenant(context: &Context, visitor: &Visitor) -> Result<Arc<Tenant>, Box<Response>> {
    let tenants = context.shared.hot().tenants.clone();
    let certificate = visitor.certificate.as_ref().map(ClientName::as_str);
    let shown = Shown::in_headers(&visitor.headers).or_certificate(certificate);
    let found = tenants.identify(shown, false, SystemTime::now());
    found.map_err(|refusal| Box::new(unauthorized(&refusal)))
}

/// The answer to whoever is not known. It names the scheme, as HTTP wants it.
fn unauthorized(refusal: &ServeError) -> Response {
    let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
    let text = format!("{refusal}\n");
    (StatusCode::UNAUTHORIZED, FRESH, scheme, text).into_response()
}
