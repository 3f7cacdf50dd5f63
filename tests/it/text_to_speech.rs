//! Texts that another server speaks for the page: `/api/speech` in front of a service of the test's own.

use std::{fmt::Write as _, net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use lipsync_server::tenants::Digest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::support::{FakeLoader, Http, PATIENCE, TestServer, avatar};

/// More than sockets hold.
const LONG_BYTES: usize = 14 << 20;

/// Does what the text that it is posted asks for; anything else is its own sound.
struct Service {
    address: SocketAddr,
    /// Texts that have arrived.
    n_seen: watch::Receiver<usize>,
    /// Until this is true, a text that says `wait` has no answer.
    may_answer: watch::Sender<bool>,
}

impl Service {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (seen, n_seen) = watch::channel(0);
        let (may_answer, answer) = watch::channel(false);
        tokio::spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                talks.spawn(talk(socket, seen.clone(), answer.clone()));
            }
        });
        Ok(Self {
            address,
            n_seen,
            may_answer,
        })
    }

    /// A section of the configuration that names it.
    fn yaml(&self, more: &str) -> String {
        let address = self.address;
        format!("operations: {{text_to_speech_url: 'http://{address}/speak?voice=x'{more}}}")
    }
}

async fn talk(
    mut socket: TcpStream,
    seen: watch::Sender<usize>,
    mut answer: watch::Receiver<bool>,
) -> Result<()> {
    let (head, body) = request(&mut socket).await?;
    ensure!(
        head.starts_with("POST /speak?voice=x HTTP/1.1\r\n"),
        "{head}"
    );
    seen.send_modify(|n| *n += 1);
    let with = |status: &str, content_type: &str, body: &str| {
        let n_bytes = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {n_bytes}\r\n\r\n{body}"
        )
    };
    let text = match body.as_str() {
        "a page" => with("200 OK", "text/html", "<script>alert(1)</script>"),
        "fail" => with("500 Oops", "text/plain", "secret"),
        "go elsewhere" => with("302 Found", "audio/wav", ""),
        "gibberish" => "hello\r\n\r\n".into(),
        "nothing" => String::new(),
        "wait" => {
            answer.wait_for(|may| *may).await?;
            with("200 OK", "audio/wav", "late")
        }
        "for ever" => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\n\r\n")
                .await?;
            while socket.write_all(&[7; 65536]).await.is_ok() {}
            return Ok(());
        }
        "long" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: {LONG_BYTES}\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&vec![7; LONG_BYTES]).await?;
            return Ok(());
        }
        // Its length is where it ends.
        body => format!("HTTP/1.1 200 OK\r\ncontent-type: Audio/WAV\r\n\r\n{body}"),
    };
    socket.write_all(text.as_bytes()).await?;
    Ok(())
}

/// The head and the body of a request.
async fn request(socket: &mut TcpStream) -> Result<(String, String)> {
    let mut all = Vec::new();
    loop {
        ensure!(socket.read_buf(&mut all).await? > 0, "a request that ends");
        let text = String::from_utf8_lossy(&all);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then_some(value)
        });
        let length: usize = length.context("a length")?.parse()?;
        if body.len() >= length {
            return Ok((head.to_owned(), body.to_owned()));
        }
    }
}

async fn server(folder: &Path, yaml: &str) -> Result<TestServer> {
    for id in ["a", "b"] {
        avatar::write_fake(&folder.join(id), 3)?;
    }
    let yaml = format!("models: {{a: {{path: a}}, b: {{path: b}}}}\n{yaml}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

async fn say(server: &TestServer, text: &str) -> Result<Http> {
    say_with(server, "/api/speech?model_id=a", "", text.as_bytes()).await
}

async fn say_with(server: &TestServer, path: &str, more: &str, text: &[u8]) -> Result<Http> {
    Http::post(server, path, more, text).await
}

#[tokio::test]
async fn a_text_becomes_what_the_service_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = Service::start().await?;
    let server = server(folder.path(), &service.yaml("")).await?;
    let limits = Http::get(&server, "/api/speech").await?;
    assert_eq!(limits.text(), r#"{"max_characters":1000}"#);
    let sound = say(&server, " Grüße \n").await?;
    assert_eq!((sound.status, sound.text()), (200, "Grüße"));
    assert_eq!(sound.header("content-type"), "Audio/WAV");
    assert_eq!(sound.header("x-content-type-options"), "nosniff");
    assert_eq!(sound.header("cache-control"), "no-store");
    Ok(())
}

#[tokio::test]
async fn a_service_may_want_json() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = Service::start().await?;
    let body = r#", text_to_speech_body: '{"input": $text, "voice": $model}'"#;
    let server = server(folder.path(), &service.yaml(body)).await?;
    let sound = say(&server, "say \"$model\"").await?;
    assert_eq!(sound.text(), r#"{"input": "say \"$model\"", "voice": "a"}"#);
    Ok(())
}

#[tokio::test]
async fn what_the_service_does_wrong_is_said_and_bounded() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = Service::start().await?;
    let limits = ", text_to_speech_timeout_s: 1, text_to_speech_max_audio_mb: 1";
    let server = server(folder.path(), &service.yaml(limits)).await?;
    for (text, status, words) in [
        ("a page", 502, "something that is no sound"),
        ("fail", 502, "answered 500"),
        ("go elsewhere", 502, "answered 302"),
        ("gibberish", 502, "does not answer"),
        ("nothing", 502, "does not answer"),
        ("for ever", 502, "more than 1048576 bytes"),
        ("wait", 504, "longer than 1 s"),
    ] {
        let refused = say(&server, text).await?;
        assert_eq!(refused.status, status, "{text}: {}", refused.text());
        assert!(refused.text().contains(words), "{text}: {}", refused.text());
        assert_eq!(refused.header("content-type"), "text/plain; charset=utf-8");
        for secret in ["voice", "secret", "127.0.0.1"] {
            assert!(!refused.text().contains(secret), "{}", refused.text());
        }
    }
    assert_eq!(say(&server, "well").await?.text(), "well");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_text_is_said_before_the_service_hears_of_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = Service::start().await?;
    let limit = ", text_to_speech_max_characters: 5";
    let server = server(folder.path(), &service.yaml(limit)).await?;
    let path = "/api/speech?model_id=a";
    for (path, more, text, status, words) in [
        (path, "", "äöüäöü".as_bytes(), 413, "at most 5 characters"),
        (path, "", &[b'x'; 5000], 413, "at most 5 characters"),
        (path, "", b" \n", 400, "is empty"),
        (path, "", b"\xff", 400, "not in UTF-8"),
        (
            path,
            "origin: http://elsewhere\r\n",
            b"hi",
            403,
            "other pages",
        ),
        ("/api/speech", "", b"hi", 400, "model_id"),
        ("/api/speech?model_id=a%20b", "", b"hi", 400, "model_id"),
        ("/api/speech?model_id=..", "", b"hi", 400, "model_id"),
    ] {
        let refused = say_with(&server, path, more, text).await?;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.text().contains(words), "{}", refused.text());
    }
    assert_eq!(*service.n_seen.borrow(), 0);
    assert_eq!(say(&server, "äöüäö").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn without_a_service_it_is_off() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), "").await?;
    let limits = Http::get(&server, "/api/speech").await?;
    assert_eq!(limits.text(), r#"{"max_characters":0}"#);
    let refused = say(&server, "hello").await?;
    assert_eq!(refused.status, 404);
    assert!(refused.text().contains("operations.text_to_speech_url"));
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_texts_spoken_for_its_own_avatars() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let service = Service::start().await?;
    let mut yaml = format!("{}\ntenants:\n", service.yaml(""));
    for (id, models) in [("one", "[a]"), ("other", "[b]")] {
        let digest = Digest::of(format!("key-of-{id}-0123456789").as_bytes());
        let digest = digest.context("a digest")?.hex();
        writeln!(
            yaml,
            "  {id}: {{models: {models}, keys: {{k: {{sha256: {digest}}}}}}}"
        )?;
    }
    let server = server(folder.path(), &yaml).await?;
    for (key, status) in [("", 401), ("one", 200), ("other", 404), ("nobody", 401)] {
        let header = format!("authorization: Bearer key-of-{key}-0123456789\r\n");
        let header = if key.is_empty() { "" } else { &header };
        let answer = say_with(&server, "/api/speech?model_id=a", header, b"hi").await?;
        assert_eq!(answer.status, status, "{key}: {}", answer.text());
    }
    assert_eq!(Http::get(&server, "/api/speech").await?.status, 401);
    assert_eq!(*service.n_seen.borrow(), 1);
    Ok(())
}

#[tokio::test]
async fn texts_that_wait_for_the_service_have_a_bounded_number() -> Result<()> {
    const N: usize = 24;
    const PLACES: usize = 16;
    let folder = tempfile::tempdir()?;
    let mut service = Service::start().await?;
    let server = Arc::new(server(folder.path(), &service.yaml("")).await?);
    let mut asking = JoinSet::new();
    for _ in 0..N {
        let server = Arc::clone(&server);
        asking.spawn(async move { say(&server, "wait").await });
    }
    let mut n_refused = 0;
    // Whoever is not at the service has been refused.
    while *service.n_seen.borrow_and_update() + n_refused < N {
        tokio::select! {
            changed = service.n_seen.changed() => changed?,
            refused = asking.join_next() => {
                let refused = refused.context("an answer")???;
                assert_eq!(refused.status, 429, "{}", refused.text());
                n_refused += 1;
            }
        }
    }
    assert!(n_refused >= N - PLACES, "{n_refused} refused");
    // Other work has places of its own.
    assert_eq!(Http::get(&server, "/api/stats").await?.status, 200);
    service.may_answer.send_replace(true);
    let rest = timeout(PATIENCE, async {
        let mut n_spoken = 0;
        while let Some(answer) = asking.join_next().await {
            ensure!(answer??.status == 200);
            n_spoken += 1;
        }
        Ok(n_spoken)
    });
    assert_eq!(rest.await?? + n_refused, N);
    assert_eq!(say(&server, "well").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_sound_that_nobody_reads_gives_way() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut service = Service::start().await?;
    let limits = "server: {max_unsent_mb: 20, peer_share_percent: 100, max_message_size_mb: 1}";
    let yaml = format!("{}\n{limits}", service.yaml(""));
    let server = server(folder.path(), &yaml).await?;
    let mut deaf = TcpStream::connect(server.operations()?).await?;
    let ask = b"POST /api/speech?model_id=a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nlong";
    deaf.write_all(ask).await?;
    service.n_seen.wait_for(|n| *n == 1).await?;
    // It has begun to arrive.
    ensure!(deaf.read_u8().await? == b'H');
    let said = timeout(PATIENCE, async {
        loop {
            let answer = say(&server, "hi").await?;
            match answer.status {
                429 => tokio::task::yield_now().await,
                _ => return anyhow::Ok(answer),
            }
        }
    });
    let said = said.await??;
    assert_eq!((said.status, said.text()), (200, "hi"));
    let mut rest = Vec::new();
    let n_read = deaf.read_to_end(&mut rest).await.unwrap_or(rest.len());
    assert!(n_read < LONG_BYTES, "its connection has ended");
    Ok(())
}
