//! Requests that are no gRPC calls, and what they are told.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tonic::body::Body;

/// Whether a request says that it is gRPC, in the one format of messages that is decoded here.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(GRPC));
    rest.is_some_and(|rest| {
        let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
        matches!(rest.first(), None | Some(b';' | b' '))
    })
}

/// As the protocol asks: who is answered with a gRPC status would have to be a gRPC client.
pub(super) fn unsupported() -> Response<Body> {
    let text =
        "this port speaks gRPC: expected content-type application/grpc or application/grpc+proto\n";
    plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

/// Calls are POST requests, and nothing else is here.
pub(super) fn not_post() -> Response<Body> {
    let text = "this port speaks gRPC, whose calls are POST requests\n";
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
    let post = HeaderValue::from_static("POST");
    response.headers_mut().insert(header::ALLOW, post);
    response
}

fn plain(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(text.to_owned()).map(Body::new);
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_grpc() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.clone())]);
            assert_eq!(is_grpc(&headers), is, "{value:?}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
