//! Failures between client and server, in words that say what to do.
//!
//! A proxy that refuses a call answers with an HTTP status and a page instead of gRPC. The libraries report
//! that in terms of the protocol (`grpc-status header missing, mapped from HTTP status code 413`), which helps nobody.

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
    if message.contains("invalid compression flag") && message.contains("response with status: 200")
    {
        let text = "what answered there is no gRPC server: is it the address of the page?";
        return Some((Code::Unimplemented, text.to_owned()));
    }
    if message == "Timeout expired" {
        let text = "the answer did not begin within the client's limit";
        return Some((Code::DeadlineExceeded, text.to_owned()));
    }
    // Pings that nobody answered end the connection: calls that wait for their answer are told so, streams only that
    // there is nothing more to read.
    let is_dead = message.contains("keep-alive timed out")
        || (status.code() == Code::Unknown && message.contains("error reading a body"));
    is_dead.then(|| {
        let text =
            "the link to the server is dead: it was cut, or nothing comes back over it any more";
        (Code::Unavailable, text.to_owned())
    })
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
