//! Origins of web pages, as browsers send them.

use std::net::Ipv6Addr;

use lipsync_core::Foreign;

use super::BadValue;

/// Where a page came from: scheme, host, and the port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    pub(super) fn parse(key: &str, text: &str) -> Result<Self, BadValue> {
        let text = text.trim();
        parse(text).map(Self).map_err(|reason| BadValue {
            key: key.into(),
            message: format!(
                "expected origins such as \"https://faces.example\" or \"http://localhost:5173\", found {:?}: {reason}",
                Foreign(text)
            ),
        })
    }

    /// As browsers write it: in lower case, without a default port.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse(text: &str) -> Result<String, &'static str> {
    if text.contains('*') {
        return Err("any page could open sessions; name those that may");
    }
    if text == "null" {
        return Err("that is what pages send that hide where they come from");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("the scheme is missing");
    };
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_of_scheme) {
        return Err("that is no scheme");
    }
    if rest.contains(['/', '?', '#']) {
        return Err("an origin ends before the path, without a slash");
    }
    if rest.contains('@') {
        return Err("an origin has no user");
    }
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = host_and_port(rest)?;
    let default = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Ok(match port.filter(|port| Some(*port) != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let colon = text.rfind(':').filter(|&at| !text[at..].contains(']'));
    let (host, port) = match colon {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let port = match port.map(str::parse) {
        None => None,
        Some(Ok(0) | Err(_)) => return Err("a port is 1 to 65535"),
        Some(Ok(port)) => Some(port),
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "that is no IPv6 address")?;
        return Ok((format!("[{address}]"), port));
    }
    if !host.is_ascii() {
        return Err("browsers send such names in their ASCII form, which begins with xn--");
    }
    let is_of_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !host.chars().all(is_of_host) {
        return Err("that is no host");
    }
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        for (text, expected) in [
            ("https://faces.example", "https://faces.example"),
            (" HTTPS://Faces.Example:443 ", "https://faces.example"),
            ("http://localhost:80", "http://localhost"),
            ("https://localhost:80", "https://localhost:80"),
            ("http://10.0.0.1:5173", "http://10.0.0.1:5173"),
            ("http://[0::1]:8080", "http://[::1]:8080"),
            ("https://[::1]", "https://[::1]"),
            (
                "https://xn--bcher-kva.example",
                "https://xn--bcher-kva.example",
            ),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            let origin = Origin::parse("operations.allowed_origins", text).expect(text);
            assert_eq!(origin.as_str(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_origin_is_said() {
        for (text, words) in [
            ("*", "name those that may"),
            ("https://*.example", "name those that may"),
            ("null", "hide where they come from"),
            ("", "the scheme is missing"),
            ("faces.example", "the scheme is missing"),
            ("://faces.example", "no scheme"),
            ("ht tp://faces.example", "no scheme"),
            ("https://faces.example/", "without a slash"),
            ("https://faces.example/talk", "before the path"),
            ("https://me@faces.example", "no user"),
            ("https://", "the host is missing"),
            ("https://:443", "the host is missing"),
            ("https://faces.example:", "a port is 1 to 65535"),
            ("https://faces.example:0", "a port is 1 to 65535"),
            ("https://faces.example:65536", "a port is 1 to 65535"),
            ("https://[::g]", "no IPv6 address"),
            ("https://::1", "no host"),
            ("https://faces example", "no host"),
            ("https://b\u{fc}cher.example", "xn--"),
        ] {
            let refused = Origin::parse("operations.allowed_origins", text).expect_err(text);
            assert!(
                refused.message.contains(words),
                "{text}: {}",
                refused.message
            );
        }
        let long = "x".repeat(100_000);
        let refused = Origin::parse("operations.allowed_origins", &long).expect_err("long");
        assert!(refused.message.len() < 600, "{}", refused.message.len());
    }
}
