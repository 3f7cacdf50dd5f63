//! Who may open a session from a browser: only pages that came from this port.
//!
//! Browsers let any page on the web open WebSockets to any host, the visitor's own machine included,
//! and say in `Origin` where that page came from. Other clients send no `Origin`; they are not bound
//! by it either.

use http::{HeaderMap, header};

/// Whether a request comes from our own page, or from no page at all; the error is for the client.
pub(super) fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let from = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    match (from, host) {
        (Some((_scheme, from)), Some(host)) if from.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err("sessions can be opened only by pages of this server: Origin and Host differ\n"),
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
            assert_eq!(check(&headers).is_ok(), may, "{origin:?} {host:?}");
        }
    }
}
