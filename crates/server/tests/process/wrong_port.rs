//! Clients that speak the wrong protocol to a port are told so, and so is the operator.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use lipsync::{client::Client, v1};
use rustix::process::Signal;

use crate::server::{BINARY, Server, write_avatar};

/// All that a port answers before it closes the connection.
fn answer_to(address: &str, said: &[u8]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(120)))?;
    socket.write_all(said)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_the_wrong_port_is_told_and_logged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    write_avatar(folder.path(), "")?;
    let log = File::create(folder.path().join("log"))?;
    let mut server = Server::start_with(&mut Command::new(BINARY), folder.path(), log)?;
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and so on";
    for _ in 0..20 {
        let answer = answer_to(&server.address, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let answer = String::from_utf8(answer)?;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains("gRPC (HTTP/2)") && answer.contains("8080"),
            "{answer}"
        );
    }
    for address in [&server.address, &server.operations] {
        // A fatal alert.
        assert!(answer_to(address, hello)?.starts_with(&[0x15, 3, 1, 0, 2, 2]));
    }
    let lost = Client::connect(&server.operations).await;
    if let Ok(lost) = lost {
        let asked = lost
            .model_admin()
            .list_models(v1::ListModelsRequest::default())
            .await;
        assert!(asked.is_err());
    }
    // Both ports go on.
    let client = Client::connect(&server.address).await?;
    client
        .model_admin()
        .list_models(v1::ListModelsRequest::default())
        .await?;
    let livez = answer_to(
        &server.operations,
        b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )?;
    assert!(
        livez.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&livez)
    );
    server.signal(Signal::TERM)?;
    assert_eq!(server.wait(Duration::from_secs(120))?.code(), Some(0));
    let log = fs::read_to_string(folder.path().join("log"))?;
    for words in [
        "an HTTP/1.1 request came to the gRPC port",
        "a TLS client came to the gRPC port",
        "a TLS client came to the operations port",
        "a client of gRPC or HTTP/2 came to the operations port",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    let n_lines = log
        .matches("an HTTP/1.1 request came to the gRPC port")
        .count();
    assert!(n_lines < 20, "{log}");
    Ok(())
}
