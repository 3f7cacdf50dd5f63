//! The operations port: probes, the page, statistics, and sessions over a WebSocket.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use lipsync::v1::{
    self, audio_chunk::Audio, stream_composite_request::Message as Ask,
    stream_composite_response::Message as Answer,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode,
    },
};

use crate::support::{
    FakeLoader, Gate, HeldGate, Http, PATIENCE, Socket, TestServer, avatar,
    speech::{babble, to_bytes},
};

async fn fake_server(folder: &Path, yaml: &str) -> Result<(TestServer, Arc<Gate>)> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = format!("models: {{a: {{path: a, preload: true}}}}\n{yaml}");
    let server = TestServer::start(&yaml, folder, Arc::new(loader)).await?;
    Ok((server, gate))
}

fn pcm_session(model: &str) -> v1::OpenSession {
    v1::OpenSession {
        model_id: model.into(),
        sample_rate_hz: 16_000,
        ..Default::default()
    }
}

#[tokio::test]
async fn probes_follow_the_phase() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = fake_server(folder.path(), "server: {pre_drain_ms: 1}").await?;
    let ready = Http::get(&server, "/readyz").await?;
    assert_eq!((ready.status, ready.text()), (200, "serving\n"));
    assert_eq!(ready.header("cache-control"), "no-store");
    assert_eq!(Http::get(&server, "/livez").await?.status, 200);

    server.running().pre_drain().await;
    let leaving = Http::get(&server, "/readyz").await?;
    assert_eq!((leaving.status, leaving.text()), (503, "leaving\n"));

    // Held in the drain by a session whose network stands still.
    let held = HeldGate::close(&gate);
    let mut session = Socket::open(&server, pcm_session("a")).await?;
    session.opened().await?;
    session.audio(1, &babble(1, 640 * 40)).await?;
    server.until("a job runs", |s| s.submitted > 0).await?;
    let address = server.operations()?;
    let draining = tokio::spawn(server.shut_down());
    let probe = |path: &'static str| {
        let address = address.clone();
        async move { raw_status(&address, path).await }
    };
    let given_up = tokio::time::Instant::now() + PATIENCE;
    while probe("/readyz").await? != (503, "draining\n".into()) {
        ensure!(tokio::time::Instant::now() < given_up, "it does not drain");
        tokio::task::yield_now().await;
    }
    assert_eq!(probe("/livez").await?.0, 200);
    drop(held);
    let (answers, code, reason) = session.rest().await?;
    assert!(
        matches!(answers.last(), Some(Answer::SegmentEnd(_))),
        "what was sent is finished"
    );
    assert_eq!((code, &reason[..12]), (4014, "UNAVAILABLE:"));
    assert!(draining.await?, "everything had ended");
    Ok(())
}

async fn raw_status(address: &str, path: &str) -> Result<(u16, String)> {
    let mut socket = TcpStream::connect(address).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut text = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut text)).await??;
    let status = text.split(' ').nth(1).context("no status")?.parse()?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

#[tokio::test]
async fn the_page_and_all_that_it_names_is_served() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let page = Http::get(&server, "/").await?;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    for inline in ["<script>", "style=", " onclick", "http://", "https://"] {
        assert!(!page.text().contains(inline), "{inline}");
    }
    let mut wanted = vec!["/".to_owned()];
    let mut n_seen = 0;
    while let Some(path) = wanted.get(n_seen).cloned() {
        n_seen += 1;
        let file = Http::get(&server, &path).await?;
        assert_eq!(file.status, 200, "{path}");
        assert!(!file.body.is_empty() && !file.header("content-type").is_empty());
        let known = format!("if-none-match: {}\r\n", file.header("etag"));
        let again = Http::request(&server, &format!("GET {path}"), &known).await?;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        for found in names(&path, file.text()) {
            if !wanted.contains(&found) {
                wanted.push(found);
            }
        }
    }
    for part in [
        "/main.js",
        "/client/protocol.js",
        "/client/capture.js",
        "/style.css",
        "/samples/lips.wav",
    ] {
        assert!(wanted.iter().any(|w| w == part), "{part} in {wanted:?}");
    }
    assert_eq!(Http::get(&server, "/../config.yaml").await?.status, 404);
    assert_eq!(Http::get(&server, "/nothing").await?.status, 404);
    let post = Http::request(&server, "POST /api/stats", "content-length: 0\r\n").await?;
    assert_eq!(post.status, 405);
    Ok(())
}

/// The files that the text at this path names in quotes.
fn names(path: &str, text: &str) -> Vec<String> {
    let here = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let of_ours = |part: &&str| {
        [".js", ".css", ".svg", ".wav"]
            .iter()
            .any(|e| part.ends_with(e))
            && !part.contains([' ', '$'])
    };
    let quoted = text.split('"').filter(of_ours);
    quoted
        .map(|name| {
            let name = name.trim_start_matches("./");
            if name.ends_with(".wav") {
                format!("/samples/{name}")
            } else {
                format!("{here}/{name}")
            }
        })
        .collect()
}

#[tokio::test]
async fn statistics_are_those_of_the_contract() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // A pack that is done between two readings would change what the cache holds.
    let yaml = "session: {max_sessions: 7}\ncapacity: {bake: off}";
    let (server, _gate) = fake_server(folder.path(), yaml).await?;
    let mut session = Socket::open(&server, pcm_session("a")).await?;
    session.audio(1, &babble(1, 640 * 3)).await?;
    session.half_close().await?;
    session.rest().await?;
    let answer = Http::get(&server, "/api/stats").await?;
    assert_eq!(answer.header("content-type"), "application/json");
    let stats: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let wire = server.stats().await?;
    assert_eq!(stats["server"]["max_sessions"], 7);
    assert_eq!(stats["server"]["completed"], wire.completed);
    assert_eq!(stats["models"][0]["model_id"], "a");
    assert_eq!(stats["models"][0]["state"], "ready");
    let stages = stats["server"]["stages"].as_array().context("stages")?;
    assert_eq!(stages.len(), wire.stages.len());
    for (json, wire) in stages.iter().zip(&wire.stages) {
        assert_eq!(json["stage"], wire.stage.as_str());
        assert_eq!(json["frames"], wire.frames);
        assert_eq!(json["total_us"], wire.total_us);
    }
    let infer = wire.stages.iter().find(|s| s.stage == "infer");
    assert_eq!(infer.context("infer")?.frames, 3);
    let sessions = wire.session_stats.context("sessions")?;
    assert_eq!(stats["server"]["session_stats"]["frames"], sessions.frames);
    assert_eq!(sessions.frames, 3);
    let models = Http::get(&server, "/api/models").await?;
    let models: serde_json::Value = serde_json::from_slice(&models.body)?;
    assert_eq!(models, stats["models"]);
    Ok(())
}

#[tokio::test]
async fn a_session_gives_the_frames_of_grpc_byte_for_byte() -> Result<()> {
    let server = TestServer::mira().await?;
    let samples = babble(5, 640 * 20 + 77);
    let asks = |open| {
        let audio = |chunk: &[i16]| {
            let audio = Some(Audio::Pcm(to_bytes(chunk)));
            Ask::Audio(v1::AudioChunk {
                segment_id: 1,
                audio,
            })
        };
        let chunks = samples.chunks(1000).map(audio);
        std::iter::once(Ask::Open(open))
            .chain(chunks)
            .collect::<Vec<_>>()
    };
    let requests = asks(pcm_session("mira"));
    let requests = requests
        .into_iter()
        .map(|m| v1::StreamCompositeRequest { message: Some(m) });
    let mut stream = server
        .client()
        .await?
        .lip_sync()
        .stream_composite(tokio_stream::iter(requests.collect::<Vec<_>>()))
        .await?
        .into_inner();
    let mut by_grpc = Vec::new();
    while let Some(response) = stream.message().await? {
        by_grpc.extend(response.message);
    }
    let mut socket = Socket::connect(&server).await?;
    for ask in asks(pcm_session("mira")) {
        socket.ask(ask).await?;
    }
    socket.half_close().await?;
    let (by_socket, code, reason) = socket.rest().await?;
    assert_eq!((code, reason.as_str()), (1000, ""));
    assert!(
        by_grpc
            .iter()
            .filter(|a| matches!(a, Answer::Frame(_)))
            .count()
            >= 20
    );
    assert!(by_socket == by_grpc, "the same answers, frames bit for bit");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_by_the_close() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "server: {max_message_size_mb: 1}").await?;
    let encoded = |message| v1::StreamCompositeRequest { message }.encode_to_vec();
    let binary = |data: Vec<u8>| vec![Message::Binary(data.into())];
    let open = |model| encoded(Some(Ask::Open(pcm_session(model))));
    let clear = || encoded(Some(Ask::Clear(v1::Clear { segment_id: None })));
    let after_the_end = [open("a"), Vec::new(), clear()];
    for (messages, code, words) in [
        (
            vec![Message::text("hello")],
            4003,
            "INVALID_ARGUMENT: message: expected binary",
        ),
        (
            binary(vec![0xff; 9]),
            4003,
            "INVALID_ARGUMENT: message: the message cannot be decoded",
        ),
        (
            binary(clear()),
            4003,
            "INVALID_ARGUMENT: message: the first message must be open",
        ),
        (binary(open("nobody")), 4005, "NOT_FOUND: "),
        (
            binary(vec![0; (1 << 20) + 1]),
            4008,
            "RESOURCE_EXHAUSTED: a message is larger than",
        ),
        (
            binary(Vec::new()),
            4003,
            "INVALID_ARGUMENT: message: the first message must be open",
        ),
        (
            after_the_end.map(|m| Message::Binary(m.into())).into(),
            4003,
            "INVALID_ARGUMENT: message: nothing may follow",
        ),
    ] {
        let mut socket = Socket::connect(&server).await?;
        for message in messages {
            // The server may have closed already.
            let _closed = socket.send(message).await;
        }
        let (_, seen, reason) = socket.rest().await?;
        assert_eq!((seen, reason.starts_with(words)), (code, true), "{reason}");
    }
    server
        .until("no session is left", |s| s.sessions == 0)
        .await?;
    Ok(())
}

#[tokio::test]
async fn sessions_of_both_kinds_take_the_same_places() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_sessions: 1}").await?;
    let mut first = Socket::open(&server, pcm_session("a")).await?;
    first.opened().await?;
    let (_, code, reason) = Socket::connect(&server).await?.rest().await?;
    assert_eq!(code, 4008);
    assert!(
        reason.starts_with("RESOURCE_EXHAUSTED: too many sessions (limit 1)"),
        "{reason}"
    );
    let refused = server
        .client()
        .await?
        .lip_sync()
        .stream_composite(tokio_stream::pending::<v1::StreamCompositeRequest>())
        .await;
    assert_eq!(
        refused.err().context("no room")?.code(),
        tonic::Code::ResourceExhausted
    );
    // A polite end, and a client that is just gone.
    first.0.close(None).await?;
    server.until("it has left", |s| s.sessions == 0).await?;
    let mut second = Socket::open(&server, pcm_session("a")).await?;
    second.opened().await?;
    drop(second);
    server.until("it is gone", |s| s.sessions == 0).await?;
    Ok(())
}

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

#[tokio::test]
async fn a_page_fetches_backgrounds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let path = "/api/models/a/backgrounds/";
    let first = Http::get(&server, &format!("{path}0")).await?;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.header("content-type"), "image/jpeg");
    let wanted = v1::GetBackgroundRequest {
        model_id: "a".into(),
        background_indices: vec![0],
        output: None,
    };
    let mut client = server.client().await?.lip_sync();
    let wire = client.get_background(wanted).await?.into_inner();
    assert!(
        first.body == wire.frames[0].data,
        "the contract's very bytes"
    );
    let n_frames: u32 = first.header("x-background-frames").parse()?;
    assert_eq!(n_frames, wire.n_background_frames);
    for (path, status, text) in [
        (
            format!("{path}{n_frames}"),
            400,
            "INVALID_ARGUMENT: background_indices: ",
        ),
        (
            format!("{path}first"),
            400,
            "INVALID_ARGUMENT: background_indices: ",
        ),
        (
            format!("{path}-1"),
            400,
            "INVALID_ARGUMENT: background_indices: ",
        ),
        (
            "/api/models/nobody/backgrounds/0".to_owned(),
            404,
            "NOT_FOUND: ",
        ),
        (
            "/api/models/%2e%2e/backgrounds/0".to_owned(),
            400,
            "INVALID_ARGUMENT: model_id: ",
        ),
    ] {
        let refused = Http::get(&server, &path).await?;
        assert_eq!(refused.status, status, "{path}: {}", refused.text());
        assert!(
            refused.text().starts_with(text),
            "{path}: {}",
            refused.text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_closes_idle_sessions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "").await?;
    let mut socket = Socket::open(&server, pcm_session("a")).await?;
    socket.opened().await?;
    let draining = tokio::spawn(server.shut_down());
    let (_, code, _) = socket.rest().await?;
    assert_eq!(CloseCode::from(code), CloseCode::from(4014));
    assert!(draining.await?);
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named() -> Result<()> {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = taken.local_addr()?;
    let yaml = format!("server: {{port: '127.0.0.1:0'}}\noperations: {{port: '{port}'}}");
    let config = lipsync_server::Config::parse(&yaml, Path::new("config.yaml"), [])?;
    let refused = lipsync_server::Server::bind(config, Arc::new(FakeLoader::default())).await;
    let text = refused.err().context("the port is taken")?.to_string();
    assert!(
        text.contains(&port.to_string()) && text.contains("operations.port"),
        "{text}"
    );
    Ok(())
}
