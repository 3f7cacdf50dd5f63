//! Failures between client and server, in words that say what to do.
//!
//! A proxy that refuses a call answers with an HTTP status and a page instead of gRPC. The libraries report
//! that in terms of the protocol (`grpc-status header missing, mapped from HTTP status code 413`), which helps nobody.

use std::{error::Error, iter::successors};

use tonic::{Code, Status};

/// The code and text for a status that the transport made; `None` if the server made it.
pub(super) fn in_plain_words(status: &Status) -> Option<(Code, String)> {
    let message = status.message();
    if let Some((_, http)) = message.split_once("mapped from HTTP status code ") {
        let code = if http == "413" {
            Code::ResourceExhausted
        } else {
            status.code()
        };
        return Some((code, refusal(http)));
    }
    if message.contains("invalid compression flag")
        && let Some((_, http)) = message.split_once("response with status: ")
    {
        let http = http.split(' ').next().unwrap_or_default();
        return Some(match http {
            "200" => {
                let text = "what answered there is no gRPC server: is it the address of the page?";
                (Code::Unimplemented, text.to_owned())
            }
            _ => (status.code(), refusal(http)),
        });
    }
    if message == "Timeout expired" {
        let text = "the answer did not begin within the client's limit";
        return Some((Code::DeadlineExceeded, text.to_owned()));
    }
    // Pings that nobody answered end the connection: calls that wait for their answer are told so, streams only that
    // there is nothing more to read.
    let cause = of_connection(status);
    let is_dead = message.contains("keep-alive timed out")
        || cause
            .as_deref()
            .is_some_and(|cause| cause.contains("keep-alive timed out"))
        || (status.code() == Code::Unknown && message.contains("error reading a body"));
    if is_dead {
        let text =
            "the link to the server is dead: it was cut, or nothing comes back over it any more";
        return Some((Code::Unavailable, text.to_owned()));
    }
    cause.map(|cause| {
        let code = match status.code() {
            Code::Unknown | Code::Internal | Code::Cancelled => Code::Unavailable,
            code => code,
        };
        let is_made = !(message.ends_with("connect error") || message == "dns error");
        let text = if is_made {
            lost(&cause)
        } else {
            format!("the server cannot be reached: {cause}")
        };
        (code, text)
    })
}

/// What ended the connection of a call, in the words of the lowest layer; `None` where nothing did. A call that was
/// reset alone has a status of its own.
fn of_connection(status: &Status) -> Option<String> {
    let causes = || successors(Error::source(status), |&error| error.source());
    let is_transport = causes().any(|cause| cause.is::<tonic::transport::Error>());
    let last = causes().last()?.to_string();
    (is_transport && !last.starts_with("stream error")).then_some(last)
}

/// A connection that was made and lost, or was none of gRPC.
fn lost(cause: &str) -> String {
    if let Some((_, said)) = cause.split_once("endpoint requires HTTP/1.1") {
        let said = said.trim().strip_prefix("(b\"");
        let said = said.and_then(|said| said.strip_suffix("\")"));
        let said = said.unwrap_or("it gives no reason");
        return format!(
            "what answers at this address speaks HTTP/1.1, and gRPC needs HTTP/2: {said}"
        );
    }
    if cause.contains("frame with invalid size") {
        return "what answers at this address speaks no HTTP/2: it is no gRPC server, or wants https://".into();
    }
    format!("the connection to the server was lost before it answered: {cause}")
}

fn refusal(http: &str) -> String {
    let (meaning, advice) = match http {
        "400" => (
            "bad request",
            "it may speak HTTP/1.1 only, where gRPC needs HTTP/2",
        ),
        "401" | "403" => (
            "refused",
            "it wants credentials, or does not let this address in",
        ),
        "404" | "405" | "415" => ("not found", "it has no route for gRPC at this address"),
        "408" => (
            "request timeout",
            "raise its limit for reading requests (nginx: client_body_timeout); a live session may be silent for minutes",
        ),
        "413" => (
            "request too large",
            "raise its limit (nginx: client_max_body_size; a live session is one request, so 0 there)",
        ),
        "429" => ("too many requests", "it limits their rate or number"),
        "502" => (
            "bad gateway",
            "it cannot reach the server, or does not speak HTTP/2 to it (nginx: grpc_pass)",
        ),
        "503" => ("unavailable", "no server behind it takes requests"),
        "504" => (
            "gateway timeout",
            "raise its time limits (nginx: grpc_read_timeout, grpc_send_timeout; Envoy: timeout of the route)",
        ),
        _ => ("no gRPC", "it does not pass gRPC on"),
    };
    format!("a proxy in front of the server answered {http} ({meaning}): {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(code: Code, message: &str) -> Option<(Code, String)> {
        in_plain_words(&Status::new(code, message))
    }

    #[test]
    fn refusals_of_proxies_say_what_to_change() {
        for (http, advice) in [
            (413, "client_max_body_size"),
            (502, "grpc_pass"),
            (503, "no server"),
            (504, "grpc_read_timeout"),
            (408, "client_body_timeout"),
            (404, "no route"),
            (418, "does not pass gRPC on"),
        ] {
            let message =
                format!("grpc-status header missing, mapped from HTTP status code {http}");
            let (_, text) = plain(Code::Unknown, &message).expect("a refusal");
            assert!(
                text.contains(&http.to_string()) && text.contains(advice),
                "{text}"
            );
        }
    }

    #[test]
    fn a_page_of_a_proxy_in_the_place_of_a_message_is_a_refusal() {
        let flag = "protocol error: received message with invalid compression flag: 60 (valid flags are 0 and 1) while \
                    receiving response with status:";
        let (_, text) = plain(Code::Internal, &format!("{flag} 404 Not Found")).expect("a refusal");
        assert!(text.contains("404") && text.contains("no route"), "{text}");
        let (code, text) = plain(Code::Internal, &format!("{flag} 200 OK")).expect("a page");
        assert!(
            code == Code::Unimplemented && text.contains("no gRPC server"),
            "{text}"
        );
    }

    #[test]
    fn what_ends_a_connection_is_said_without_the_words_of_libraries() {
        for (cause, expected) in [
            (
                "connection error received: endpoint requires HTTP/1.1 (b\"gRPC is on server.port\")",
                "speaks HTTP/1.1, and gRPC needs HTTP/2: gRPC is on server.port",
            ),
            (
                "connection error received: endpoint requires HTTP/1.1",
                "it gives no reason",
            ),
            (
                "connection error detected: frame with invalid size",
                "speaks no HTTP/2",
            ),
            ("broken pipe", "lost before it answered: broken pipe"),
        ] {
            let text = lost(cause);
            assert!(
                text.ends_with(expected) || text.contains(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn dead_links_are_called_so() {
        for (code, message) in [
            (Code::Unavailable, "keep-alive timed out"),
            (
                Code::Unknown,
                "h2 protocol error: error reading a body from connection",
            ),
        ] {
            let (code, text) = plain(code, message).expect("of the transport");
            assert!(code == Code::Unavailable && text.contains("dead"), "{text}");
        }
    }

    #[test]
    fn what_a_server_says_is_left_alone() {
        for message in ["queue full", "", "not found: model \"timeout expired\""] {
            assert_eq!(plain(Code::Unavailable, message), None, "{message}");
        }
    }
}
