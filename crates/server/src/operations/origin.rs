//! Who may open a session from a browser: pages that came from this port, and those that the configuration allows.
//!
//! Browsers let any page on the web open WebSockets to any host, the visitor's own machine included,
//! and say in `Origin` where that page came from. Other clients send no `Origin`; they are not bound
//! by it either.

use http::{HeaderMap, header};

use crate::config::Origin;

const REFUSAL: &str = "sessions can be opened only by pages of this server, or of its operations.allowed_origins: \
     Origin and Host differ\n";

/// Whether a request comes from our own page, from an allowed one, or from no page at all; the error is for the client.
pub(super) fn check(headers: &HeaderMap, allowed: &[Origin]) -> Result<(), &'static str> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().map_err(|_| REFUSAL)?;
    if allowed
        .iter()
        .any(|allowed| allowed.as_str().eq_ignore_ascii_case(origin))
    {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    match (origin.split_once("://"), host) {
        (Some((_scheme, from)), Some(host)) if from.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(REFUSAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages() {
        for (origin, host, may) in [
            (None, Some("a:8080"), true),
            (None, None, true),
            (Some("http://a:8080"), Some("a:8080"), true),
            (Some("https://Faces.Example"), Some("faces.example"), true),
            (Some("http://[::1]:8080"), Some("[::1]:8080"), true),
            (Some("http://a:8081"), Some("a:8080"), false),
            (Some("http://b:8080"), Some("a:8080"), false),
            (Some("http://a:8080.b"), Some("a:8080"), false),
            (Some("http://a:8080"), None, false),
            (Some("null"), Some("null"), false),
            (Some("a:8080"), Some("a:8080"), false),
            (Some(""), Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(host) = host {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            assert_eq!(check(&headers, &[]).is_ok(), may, "{origin:?} {host:?}");
        }
    }
}
