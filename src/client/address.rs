//! Server addresses as people write them.

use std::net::IpAddr;

use tonic::transport::Uri;

/// The default port, used for a host without a port.
const DEFAULT_PORT: u16 = 50_051;

/// Where to connect, and whether with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `http://host:port` or `https://host:port`.
    pub(super) uri: Uri,
    /// The host without the brackets of an IPv6 address: the name that a certificate must have.
    pub(super) host: String,
    /// Whether it must be TLS.
    pub(super) is_secure: bool,
}

impl Address {
    /// Parses `host:port`, `host`, and URIs of the schemes http and grpc (no TLS), https and grpcs (TLS), in
    /// upper or lower case. The error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let (is_secure, authority) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme_is_secure(scheme)?, rest),
            None => (false, without_scheme(text)?),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err("gRPC takes no path, only a host and a port");
        }
        if authority.contains('@') {
            return Err("a user name or password has no place in it");
        }
        let port = match (text.contains("://"), is_secure) {
            (true, true) => 443,
            (true, false) => 80,
            (false, _) => DEFAULT_PORT,
        };
        let parsed: tonic::codegen::http::uri::Authority = authority
            .parse()
            .map_err(|_| "the host or the port cannot be read")?;
        let host = parsed.host();
        if host.is_empty() {
            return Err("it names no host");
        }
        let port = match (authority.len() == host.len(), parsed.port_u16()) {
            (true, _) => port,
            (false, Some(port)) if port != 0 => port,
            (false, _) => return Err("the port is not a number from 1 to 65535"),
        };
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self {
            uri: format!("{scheme}://{host}:{port}")
                .parse()
                .map_err(|_| "the host or the port cannot be read")?,
            host: host.trim_matches(['[', ']']).to_owned(),
            is_secure,
        })
    }
}

impl Address {
    /// Whether what is sent there can be read by others on the way: there is no TLS, and it is another machine.
    pub(super) fn is_exposed(&self) -> bool {
        let is_local = self.host.eq_ignore_ascii_case("localhost")
            || self
                .host
                .parse()
                .is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
        !self.is_secure && !is_local
    }
}

fn scheme_is_secure(scheme: &str) -> Result<bool, &'static str> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "grpc" => Ok(false),
        "https" | "grpcs" => Ok(true),
        "unix" => Err(UNIX),
        _ => Err("its scheme is not known: http, https, grpc and grpcs are"),
    }
}

const UNIX: &str = "sockets of files are not spoken, only TCP";

/// Catches texts that look like `host:port` but are not.
fn without_scheme(text: &str) -> Result<&str, &'static str> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("unix:") {
        return Err(UNIX);
    }
    // A forgotten slash must not turn TLS into clear text to a host called `https`.
    for scheme in ["http:", "https:", "grpc:", "grpcs:"] {
        if lower.starts_with(scheme) {
            return Err("two slashes follow a scheme");
        }
    }
    if text.matches(':').count() > 1 && !text.starts_with('[') {
        return Err("an IPv6 address stands in brackets");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, uri) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051/"),
            ("localhost", "http://localhost:50051/"),
            (" faces.example:7 ", "http://faces.example:7/"),
            ("[::1]:50051", "http://[::1]:50051/"),
            ("[::1]", "http://[::1]:50051/"),
            ("http://faces.example", "http://faces.example:80/"),
            ("HTTP://faces.example:7/", "http://faces.example:7/"),
            ("grpc://faces.example:7", "http://faces.example:7/"),
            ("https://faces.example", "https://faces.example:443/"),
            ("HTTPS://[::1]:7", "https://[::1]:7/"),
            ("Grpcs://faces.example:7/", "https://faces.example:7/"),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.uri.to_string(), uri, "{text}");
            assert_eq!(address.is_secure, uri.starts_with("https"), "{text}");
        }
        assert_eq!(Address::parse("https://[::1]:7").expect("fine").host, "::1");
    }

    #[test]
    fn what_can_be_read_on_the_way() {
        for (text, is_exposed) in [
            ("127.0.0.1:7", false),
            ("[::1]:7", false),
            ("[::ffff:127.0.0.1]:7", false),
            ("Localhost", false),
            ("http://10.0.0.1:7", true),
            ("faces.example", true),
            ("https://faces.example", false),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!(address.is_exposed(), is_exposed, "{text}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_an_address() {
        for (text, reason) in [
            ("", "cannot be read"),
            (":50051", "no host"),
            ("http://", "cannot be read"),
            ("http://:50051", "no host"),
            ("https:faces.example:7", "two slashes"),
            ("HTTPS:/faces.example", "two slashes"),
            ("httpss://faces.example", "scheme"),
            ("wss://faces.example", "scheme"),
            ("unix:/run/lipsync", "only TCP"),
            ("unix:///run/lipsync", "only TCP"),
            ("::1", "brackets"),
            ("fe80::1:50051", "brackets"),
            ("faces.example:0", "port"),
            ("faces.example:", "port"),
            ("faces.example:70000", "port"),
            ("http://faces.example/lipsync", "no path"),
            ("faces.example/lipsync", "no path"),
            ("http://faces.example?a", "no path"),
            ("https://me:word@faces.example", "user name"),
            ("not a host:1", "cannot be read"),
        ] {
            let found = Address::parse(text).expect_err(text);
            assert!(found.contains(reason), "{text}: {found}");
        }
    }
}
