//! Values that are good alone and not together.

use super::*;

#[test]
fn two_ports_in_one_place_are_refused() {
    for (text, words) in [
        (
            "server: {port: ':8080'}\noperations:\n  port: ':8080'\n",
            ":3:3: operations.port: expected another port than that of server.port, 0.0.0.0:8080, found",
        ),
        (
            "server: {port: '[::]:81'}\noperations: {port: '127.0.0.1:81'}\n",
            ":2:14: operations.port: ",
        ),
        // The other one is a default.
        (
            "server:\n  port: 8080\n",
            ":2:3: server.port: expected another port than that of operations.port",
        ),
        (
            "operations: {port: '127.0.0.1:50051'}\n",
            ":1:14: operations.port: ",
        ),
    ] {
        let message = parse(text).expect_err(text);
        assert!(message.contains(words), "{message}");
    }
    let variables = [("LIPSYNC_SERVER__PORT", ":8080")];
    let message = parse_with("", &variables).unwrap_err();
    assert!(
        message.starts_with("environment variable LIPSYNC_SERVER__PORT: server.port: "),
        "{message}"
    );
    for text in [
        "server: {port: ':0'}\noperations: {port: ':0'}\n",
        "server: {port: ':8080'}\noperations: {enabled: false}\n",
        "server: {port: '127.0.0.1:81'}\noperations: {port: '[::1]:81'}\n",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}
