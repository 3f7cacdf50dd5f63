//! How clients reach a server: TLS, and links that go dead.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use lipsync::{
    call_error::CallError,
    client::{Client, ConnectError, ConnectOptions},
    session::SessionError,
    v1::{
        GetServerStatsRequest, ListModelsRequest, Pacing,
        stream_composite_response::Message as Answer,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::Code;

use crate::{
    stream::{Session, frames, pcm_session},
    support::{
        FakeLoader, Gate, HeldGate, PATIENCE, TestServer, avatar, silent::Link, speech, tls,
    },
};

/// Soon enough for a test of what never comes.
const SOON: Duration = Duration::from_millis(500);
/// For an answer to a ping: late enough for a machine under load.
const PING_TIMEOUT: Duration = Duration::from_secs(4);

async fn server(folder: &Path) -> Result<(TestServer, Arc<Gate>)> {
    avatar::write_fake(&folder.join("a"), 4)?;
    let loader = FakeLoader::default();
    let gate = Arc::clone(&loader.gate);
    let yaml = "models: {a: {path: a, preload: true}}\n";
    let server = TestServer::start(yaml, folder, Arc::new(loader)).await?;
    Ok((server, gate))
}

async fn refusal(options: &ConnectOptions, address: &str) -> Result<ConnectError> {
    let answer = timeout(PATIENCE, options.connect(address)).await?;
    answer.err().with_context(|| format!("{address} was taken"))
}

#[tokio::test]
async fn https_is_tls_for_calls_and_sessions() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = server(folder.path()).await?;
    let port = tls::in_front_of(server.address(), &["h2"]).await?;
    let options = ConnectOptions::new().ca_certificate(tls::CA);
    for address in [
        format!("https://127.0.0.1:{port}"),
        format!("HTTPS://localhost:{port}/"),
        format!("grpcs://localhost:{port}"),
    ] {
        let client = options.connect(&address).await?;
        let samples = speech::babble(1, 3 * 640);
        let answer = client
            .infer_batch_composite(speech::pcm_request("a", &samples))
            .await?;
        assert_eq!(answer.frames.len(), 3, "{address}");
        let mut session = client.session("a").open().await?;
        session.push_samples(&samples).await?;
        session.finish();
        assert!(session.next().await?.is_some(), "{address}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secure_scheme_never_falls_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = server(folder.path()).await?;
    let trusting = ConnectOptions::new().ca_certificate(tls::CA);
    // In clear there: refused, whatever the case of the letters.
    for scheme in ["https", "HTTPS", "grpcs"] {
        let address = format!("{scheme}://{}", server.address());
        let error = refusal(&trusting, &address).await?;
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains("use http://"), "{error}");
    }
    // Signed by an authority that this client does not trust.
    let port = tls::in_front_of(server.address(), &["h2"]).await?;
    let other = ConnectOptions::new().ca_certificate(OTHER_CA);
    let error = refusal(&other, &format!("https://localhost:{port}")).await?;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("authority"), "{error}");
    // No HTTP/2, no gRPC.
    let port = tls::in_front_of(server.address(), &["http/1.1"]).await?;
    let error = refusal(&trusting, &format!("https://localhost:{port}")).await?;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    // A file that holds no certificate is not "trust nobody".
    let none = ConnectOptions::new().ca_certificate("hello");
    let error = refusal(&none, "https://localhost:1").await?;
    assert!(error.to_string().contains("PEM"), "{error}");
    Ok(())
}

#[tokio::test]
async fn in_clear_to_a_port_of_tls_fails_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = server(folder.path()).await?;
    let port = tls::in_front_of(server.address(), &["h2"]).await?;
    let talk = async {
        let client = Client::connect(&format!("http://127.0.0.1:{port}")).await?;
        client
            .server_admin()
            .get_server_stats(GetServerStatsRequest {})
            .await?;
        anyhow::Ok(())
    };
    assert!(timeout(PATIENCE, talk).await?.is_err());
    Ok(())
}

/// Answers every connection with these bytes, and ends it.
async fn peer_that_says(words: &'static [u8]) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let mut preface = [0; 24];
            let _ = peer.read_exact(&mut preface).await;
            let _ = peer.write_all(words).await;
            let _ = peer.shutdown().await;
            // Closing with something unread would reset the connection, and the words might be lost.
            tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_peer_that_is_no_grpc_server_is_called_so() -> Result<()> {
    for (words, expected) in [
        (
            &b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"[..],
            "no gRPC server",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no gRPC server"),
        // The alert of a TLS server to a client in clear.
        (b"\x15\x03\x01\x00\x02\x02\x28\0\0", "wants https://"),
        (b"", "was lost before it answered"),
        // SETTINGS, then GOAWAY with HTTP_1_1_REQUIRED: what our operations port says to clients of gRPC.
        (
            b"\0\0\0\x04\0\0\0\0\0\0\0\x0c\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dword",
            "speaks HTTP/1.1, and gRPC needs HTTP/2: word",
        ),
    ] {
        let client = Client::connect(&peer_that_says(words).await?).await?;
        let call = client.infer_batch_composite(speech::pcm_request("a", &[0; 640]));
        let status = timeout(PATIENCE, call).await?.expect_err("no server");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains(expected), "{status:?}");
        let opening = timeout(PATIENCE, client.session("a").open()).await?;
        let Err(SessionError::Server(error)) = opening else {
            bail!("a session with no server");
        };
        assert_eq!(error.code, Code::Unavailable, "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_peer_that_takes_the_connection_and_is_silent_is_given_up() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // The handshake of TLS is never answered.
    let hasty = ConnectOptions::new()
        .ca_certificate(tls::CA)
        .connect_timeout(SOON);
    let error = refusal(&hasty, &format!("https://{address}")).await?;
    assert!(
        matches!(
            error,
            ConnectError::Timeout { .. } | ConnectError::Transport { .. }
        ),
        "{error:?}"
    );
    // In clear there is no handshake to wait for; the call notices.
    let options = ConnectOptions::new().pings(SOON, SOON);
    let client = options.connect(&address.to_string()).await?;
    let call = client.infer_batch_composite(speech::pcm_request("a", &[0; 640]));
    let status = timeout(PATIENCE, call).await?.expect_err("nobody answers");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let opening = timeout(PATIENCE, client.session("a").open()).await?;
    assert!(matches!(opening, Err(SessionError::Server(_))));
    Ok(())
}

#[tokio::test]
async fn a_link_that_goes_dead_ends_sessions_and_calls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = server(folder.path()).await?;
    let link = Link::to(server.address()).await?;
    let options = ConnectOptions::new().pings(SOON, PING_TIMEOUT);
    let client = options.connect(&link.address).await?;
    let session = client.session("a").pacing(Pacing::Realtime).open().await?;
    let (mut sender, mut receiver) = session.split();
    sender.push_samples(&speech::babble(1, 640 * 20)).await?;
    assert!(receiver.next().await?.is_some());
    let held = HeldGate::close(&gate);
    let caller = client.clone();
    let call = tokio::spawn(async move {
        caller
            .infer_batch_composite(speech::pcm_request("a", &[0; 640]))
            .await
    });
    server
        .until("the call waits", |stats| {
            stats.queue_depth > 0 || stats.submitted > 0
        })
        .await?;
    link.die();
    let ended = timeout(PATIENCE, async {
        loop {
            match receiver.next().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    let Err(SessionError::Server(error)) = ended.await? else {
        bail!("a dead link is no good end")
    };
    assert_eq!(error.code, Code::Unavailable, "{error:?}");
    assert!(error.message.contains("dead"), "{error:?}");
    let status = timeout(PATIENCE, call).await??.expect_err("nobody answers");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let sending = timeout(PATIENCE, sender.push_samples(&[0; 640])).await?;
    assert_eq!(sending, Err(SessionError::Closed));
    drop(held);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_never_begins_is_not_waited_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, gate) = server(folder.path()).await?;
    // The server lives and answers pings, so only the limit can end the wait.
    let held = HeldGate::close(&gate);
    let options = ConnectOptions::new().answer_timeout(SOON);
    let client = options.connect(&server.address()).await?;
    let call = client.infer_batch_composite(speech::pcm_request("a", &[0; 640]));
    let status = timeout(PATIENCE, call)
        .await?
        .expect_err("the gate is closed");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    drop(held);
    Ok(())
}

#[tokio::test]
async fn a_quiet_session_outlives_its_pings() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = server(folder.path()).await?;
    // A server that answers every ping.
    let ping = Duration::from_millis(100);
    let options = ConnectOptions::new().pings(ping, PATIENCE);
    let client = options.connect(&server.address()).await?;
    let mut session = client.session("a").open().await?;
    assert!(timeout(10 * ping, session.next()).await.is_err());
    session.push_samples(&speech::babble(1, 640)).await?;
    session.finish();
    assert!(session.next().await?.is_some());
    let models = client.model_admin().list_models(ListModelsRequest {}).await;
    models.map_err(CallError::from)?;
    Ok(())
}

/// Another authority, made as that of `tests/data/tls`.
const OTHER_CA: &[u8] = include_bytes!("../data/tls/other-ca.pem");

/// Clients of a service that grows meet its new servers, because old connections end.
#[tokio::test]
async fn an_old_connection_takes_no_new_call_and_ends_with_the_last() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 4)?;
    let yaml = "models: {a: {path: a, preload: true}}\nserver: {max_connection_age_s: 1}\n";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let client = server.client().await?;
    let mut session = Session::over(&client, pcm_session("a")).await?;
    let socket = TcpStream::connect(server.address()).await?;
    let (_calls, idle) = h2::client::handshake(socket).await?;
    // The server ends it, in order or not as this client sees it.
    let _ = timeout(PATIENCE, idle).await?;
    session.audio(1, &speech::babble(1, 640 * 3));
    session.half_close();
    assert_eq!(frames(&session.rest().await?).len(), 3);
    // The client comes back by itself.
    let again = client
        .infer_batch_composite(speech::windows_request("a", &[1.0]))
        .await?;
    assert_eq!(again.frames.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_does_not_end_on_an_old_connection_is_cut() -> Result<()> {
    let folder = tempfile::tempdir()?;
    avatar::write_fake(&folder.path().join("a"), 4)?;
    let yaml = "models: {a: {path: a, preload: true}}\n\
        server: {max_connection_age_s: 1, max_connection_grace_s: 1}\n";
    let server = TestServer::start(yaml, folder.path(), Arc::new(FakeLoader::default())).await?;
    let client = server.client().await?;
    let mut session = Session::over(&client, pcm_session("a")).await?;
    assert!(matches!(session.next().await?, Some(Answer::Opened(_))));
    let ended = timeout(PATIENCE, session.next()).await?;
    assert!(ended.is_err(), "{ended:?}");
    Ok(())
}
