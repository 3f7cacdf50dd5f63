//! Where to listen, as people write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::uri::{Authority, Scheme, Uri};
use lipsync_core::Foreign;

use super::{BadValue, other_format::is_template};

/// `:50051` and `50051` listen on every IPv4 address, `[::]:50051` on every address of both kinds, `host:port` on one.
pub(super) fn parse_address(key: &str, text: &str) -> Result<SocketAddr, BadValue> {
    let text = text.trim();
    let full = match text.rsplit_once(':') {
        Some(("" | "*", port)) => format!("{}:{port}", Ipv4Addr::UNSPECIFIED),
        Some((name, port)) if name.eq_ignore_ascii_case("localhost") => {
            format!("{}:{port}", Ipv4Addr::LOCALHOST)
        }
        None if is_number(text) => format!("{}:{text}", Ipv4Addr::UNSPECIFIED),
        _ => text.to_owned(),
    };
    full.parse().map_err(|_| BadValue {
        key: key.into(),
        message: format!(
            "expected \":50051\" (every IPv4 address), \"[::]:50051\" (IPv6 and IPv4) or an IP address and a \
             port such as \"127.0.0.1:50051\", found {:?}{}",
            Foreign(text),
            advice(text)
        ),
    })
}

/// Whether a server that listens on one of them keeps the other from being listened on.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    if one.port() == 0 || one.port() != other.port() {
        return false;
    }
    if let (SocketAddr::V6(one), SocketAddr::V6(other)) = (one, other)
        && one.scope_id() != other.scope_id()
        && !one.ip().is_unspecified()
        && !other.ip().is_unspecified()
    {
        return false;
    }
    // An IPv4 address can be written as one of IPv6.
    let (one, other) = (one.ip().to_canonical(), other.ip().to_canonical());
    // `[::]` takes IPv4, too.
    let holds = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one == other || holds(one, other) || holds(other, one)
}

/// Whether an address is one of http or https with a host, a good port and no user: what requests of ours go to.
pub(super) fn is_web_address(url: &Uri) -> bool {
    let is_http = url.scheme() == Some(&Scheme::HTTP) || url.scheme() == Some(&Scheme::HTTPS);
    let has_user = |authority: &Authority| authority.as_str().contains('@');
    is_http
        && url.host().is_some_and(|host| !host.is_empty())
        && !url.authority().is_some_and(has_user)
        && has_good_port(url)
}

/// Whether the port of an address, if it has one, is one: the parser takes any text for it, and then none.
pub(super) fn has_good_port(url: &Uri) -> bool {
    url.authority().is_some_and(|authority| {
        let is_named = !authority.as_str().ends_with(authority.host());
        !is_named || authority.port_u16().is_some_and(|port| port != 0)
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// What is wrong with it, where that can be told.
fn advice(text: &str) -> String {
    if is_template(text) || text.contains("${") {
        return ": a template was not rendered".into();
    }
    if text.contains("://") {
        return ": write no scheme before it".into();
    }
    if text.starts_with(['"', '\'']) {
        return ": the quotes are part of the value, leave them out".into();
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && is_number(port)
        && host.parse::<Ipv6Addr>().is_ok()
    {
        return format!(": write \"[{host}]:{port}\" if {port} is the port");
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(IpAddr::V4(_)) => return format!(": the port is missing, as in \"{bare}:50051\""),
        Ok(IpAddr::V6(_)) => return format!(": the port is missing, as in \"[{bare}]:50051\""),
        Err(_) => {}
    }
    match text.rsplit_once(':') {
        Some((_, port)) if is_number(port) && port.parse::<u16>().is_err() => {
            ": a port is at most 65535".into()
        }
        None if is_number(text) => ": a port is at most 65535".into(),
        Some((host, port))
            if is_number(port) && host.contains(char::is_alphabetic) && !host.contains(':') =>
        {
            ": names are not looked up, write an IP address".into()
        }
        _ if text.contains('%') => {
            ": a zone is the number of an interface, as in \"[fe80::1%2]:50051\"".into()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_as_people_write_them() {
        for (text, expected) in [
            (":50051", "0.0.0.0:50051"),
            ("*:50051", "0.0.0.0:50051"),
            ("50051", "0.0.0.0:50051"),
            (" 127.0.0.1:0 ", "127.0.0.1:0"),
            ("localhost:7", "127.0.0.1:7"),
            ("LOCALHOST:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
            ("[::]:50051", "[::]:50051"),
            ("[fe80::1%2]:50051", "[fe80::1%2]:50051"),
        ] {
            let address = parse_address("server.port", text).expect(text);
            assert_eq!(address, expected.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn addresses_overlap_where_one_keeps_the_other_from_listening() {
        let overlap = |one: &str, other: &str| {
            let parsed = |text| parse_address("server.port", text).expect(text);
            let (one, other) = (parsed(one), parsed(other));
            assert_eq!(overlap(one, other), overlap(other, one));
            overlap(one, other)
        };
        for (one, other) in [
            (":8080", ":8080"),
            (":8080", "127.0.0.1:8080"),
            ("[::]:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("[::]:8080", ":8080"),
            ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[fe80::1%2]:8080"),
            ("[fe80::1%2]:8080", "[fe80::1%2]:8080"),
        ] {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [
            (":8080", ":8081"),
            (":0", ":0"),
            ("[::]:0", "127.0.0.1:0"),
            ("127.0.0.1:8080", "127.0.0.2:8080"),
            ("127.0.0.1:8080", "[::1]:8080"),
            (":8080", "[::1]:8080"),
            ("[fe80::1%2]:8080", "[fe80::1%3]:8080"),
        ] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }

    #[test]
    fn a_port_that_is_none_is_no_default() {
        for (url, is_good) in [
            ("http://a", true),
            ("http://a:1/x", true),
            ("http://[::1]", true),
            ("http://[::1]:65535/", true),
            ("http://a:65536/x", false),
            ("http://a:0", false),
            ("http://a:/x", false),
            ("http://[::1]:70000", false),
        ] {
            assert_eq!(has_good_port(&url.parse().unwrap()), is_good, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (text, words) in [
            ("", "found \"\""),
            (":", "found \":\""),
            ("here", "found \"here\""),
            (":70000", "at most 65535"),
            ("70000", "at most 65535"),
            ("127.0.0.1:99999999999999999999", "at most 65535"),
            ("tcp://0.0.0.0:50051", "no scheme"),
            ("\":50051\"", "leave them out"),
            ("0.0.0.0", "as in \"0.0.0.0:50051\""),
            ("::", "as in \"[::]:50051\""),
            ("[::]", "as in \"[::]:50051\""),
            ("::1", "as in \"[::1]:50051\""),
            (":::50051", "write \"[::]:50051\" if"),
            ("2001:db8::1:50051", "write \"[2001:db8::1]:50051\" if"),
            ("xlocalhost:7", "not looked up"),
            ("lipsync.example.org:50051", "not looked up"),
            ("[fe80::1%eth0]:50051", "number of an interface"),
            (&"9".repeat(100_000), "(100000 bytes)"),
        ] {
            let message = parse_address("server.port", text).expect_err(text).message;
            assert!(message.contains(words), "{text}: {message}");
            assert!(
                message.contains("[::]:50051") && message.len() < 600,
                "{message}"
            );
        }
    }
}
