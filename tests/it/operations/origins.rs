//! Pages of other sites.

use anyhow::Result;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, client::IntoClientRequest as _},
};

use super::fake_server;
use crate::support::Http;

#[tokio::test]
async fn foreign_pages_get_no_session() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let host = server.operations()?;
    for (origin, may) in [
        (format!("http://{host}"), true),
        ("http://elsewhere.example".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let mut request = format!("ws://{host}/session").into_client_request()?;
        request.headers_mut().insert("origin", origin.parse()?);
        let tcp = TcpStream::connect(&host).await?;
        match client_async(request, tcp).await {
            Ok(_) => assert!(may, "{origin}"),
            Err(Error::Http(answer)) => {
                assert!(!may && answer.status() == 403, "{origin}: {answer:?}");
                let body = answer.into_body().unwrap_or_default();
                assert!(String::from_utf8(body)?.contains("Origin"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    let plain = Http::get(&server, "/session").await?;
    assert_eq!(plain.status, 400, "no WebSocket was asked for");
    Ok(())
}

#[tokio::test]
async fn pages_of_allowed_origins_may_open_sessions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = "operations: {port: '127.0.0.1:0', allowed_origins: ['https://faces.example', 'http://dev:5173']}";
    let (server, _gate) = fake_server(folder.path(), yaml).await?;
    let host = server.operations()?;
    for (origin, may) in [
        (format!("http://{host}"), true),
        ("https://faces.example".to_owned(), true),
        ("http://dev:5173".to_owned(), true),
        ("http://faces.example".to_owned(), false),
        ("https://faces.example:8443".to_owned(), false),
        ("https://faces.example.elsewhere.example".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let mut request = format!("ws://{host}/session").into_client_request()?;
        request.headers_mut().insert("origin", origin.parse()?);
        let tcp = TcpStream::connect(&host).await?;
        let opened = client_async(request, tcp).await.is_ok();
        assert_eq!(opened, may, "{origin}");
        // A page that was refused asks why; it sends its origin with a POST.
        let header = format!("origin: {origin}\r\ncontent-length: 0\r\n");
        let why = Http::request(&server, "POST /session", &header).await?;
        assert_eq!(why.status, if may { 426 } else { 403 }, "{origin}");
        assert!(why.text().starts_with("sessions "), "{}", why.text());
    }
    Ok(())
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_answers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = "operations: {port: '127.0.0.1:0', allowed_origins: ['https://faces.example']}";
    let (server, _gate) = fake_server(folder.path(), yaml).await?;
    for path in [
        "/api/models",
        "/client/index.js",
        "/api/models/a/backgrounds/0",
    ] {
        for (origin, may) in [
            ("https://faces.example", true),
            ("https://elsewhere.example", false),
        ] {
            let header = format!("origin: {origin}\r\n");
            let answer = Http::request(&server, &format!("GET {path}"), &header).await?;
            assert_eq!(answer.status, 200, "{path}");
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, if may { origin } else { "" }, "{path}");
            let policy = answer.header("cross-origin-resource-policy");
            let expected = if may { "cross-origin" } else { "same-origin" };
            assert_eq!(policy, expected, "{path}");
            assert_eq!(answer.header("vary"), "origin");
        }
        assert_eq!(
            Http::get(&server, path)
                .await?
                .header("access-control-allow-origin"),
            ""
        );
    }
    // Before a request with a key browsers ask whether the page may send it.
    for (origin, status, may) in [
        ("https://faces.example", 204, "authorization"),
        ("https://elsewhere.example", 405, ""),
    ] {
        let header = format!("origin: {origin}\r\naccess-control-request-method: GET\r\n");
        let answer = Http::request(&server, "OPTIONS /api/models", &header).await?;
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(answer.header("access-control-allow-headers"), may);
    }
    Ok(())
}
