//! Encrypted ports: who may come in, with what, and what happens when the certificate is replaced.

use std::{fs, path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use lipsync::{
    client::{Client, ConnectOptions},
    v1::{
        self, model_admin_client::ModelAdminClient, stream_composite_response::Message as Answer,
    },
};
use lipsync_server::{Config, Server, StartError, tenants::Digest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
        version::{TLS12, TLS13},
    },
};

use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    stream::{Session, frames, pcm_session},
    support::{
        FakeLoader, PATIENCE, TestServer, avatar,
        speech::{babble, windows_request},
        tls::CA,
    },
};

const CA_2: &[u8] = include_bytes!("../data/tls/ca-2.pem");
const CLIENT: &[u8] = include_bytes!("../data/tls/client.pem");
const CLIENT_KEY: &[u8] = include_bytes!("../data/tls/client-key.pem");
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");

/// Puts the files of one of the two servers in place.
fn put(folder: &Path, from: &str, to: &str) -> Result<()> {
    let draft = folder.join("draft");
    fs::copy(Path::new(DATA).join(from), &draft)?;
    Ok(fs::rename(draft, folder.join(to))?)
}

async fn server(folder: &Path, yaml: &str) -> Result<TestServer> {
    avatar::write_fake(&folder.join("a"), 1)?;
    put(folder, "server.pem", "cert.pem")?;
    put(folder, "server-key.pem", "key.pem")?;
    put(folder, "ca-2.pem", "clients.pem")?;
    let yaml =
        format!("capacity: {{bake: off}}\nmodels: {{a: {{path: a, preload: true}}}}\n{yaml}");
    TestServer::start(&yaml, folder, Arc::new(FakeLoader::default())).await
}

const BOTH: &str = "server: {tls: {cert: cert.pem, key: key.pem}}\n\
                    operations: {tls: {cert: cert.pem, key: key.pem}}\n";

/// What a client of TLS brings.
struct Brings {
    ca: &'static [u8],
    alpn: &'static str,
    is_old: bool,
    has_certificate: bool,
}

const PLAIN: Brings = Brings {
    ca: CA,
    alpn: "h2",
    is_old: false,
    has_certificate: false,
};

async fn connect(address: &str, brings: &Brings) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(brings.ca)?)?;
    let versions = if brings.is_old { [&TLS12] } else { [&TLS13] };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions)?
        .with_root_certificates(roots);
    let mut config = if brings.has_certificate {
        let chain = vec![CertificateDer::from_pem_slice(CLIENT)?];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(CLIENT_KEY)?)?
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![brings.alpn.as_bytes().to_vec()];
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost")?;
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await?;
    // With 1.3 a client learns only now that its certificate is missing.
    if brings.alpn == "h2" {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await?;
        let mut settings = [0; 9];
        stream.read_exact(&mut settings).await?;
        ensure!(settings[3] == 4, "{settings:?}");
    }
    Ok(stream)
}

/// `GET path` inside of TLS.
async fn get(address: &str, path: &str, ca: &'static [u8]) -> Result<String> {
    let brings = Brings { ca, ..PAGE };
    ask(address, path, &brings, "").await
}

const PAGE: Brings = Brings {
    alpn: "http/1.1",
    ..PLAIN
};

/// `GET path` inside of TLS, with more headers.
async fn ask(address: &str, path: &str, brings: &Brings, headers: &str) -> Result<String> {
    let mut stream = connect(address, brings).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    // The end may come without a farewell of TLS.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8(answer)?)
}

async fn client(server: &TestServer, ca: &'static [u8]) -> Result<Client> {
    let options = ConnectOptions::new().ca_certificate(ca);
    let port = server
        .address()
        .rsplit_once(':')
        .context("a port")?
        .1
        .to_owned();
    Ok(options
        .connect(&format!("https://localhost:{port}"))
        .await?)
}

#[tokio::test]
async fn both_ports_speak_tls_and_nothing_else() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), BOTH).await?;
    let answer = client(&server, CA).await?;
    let answer = answer
        .infer_batch_composite(windows_request("a", &[1.0; 3]))
        .await?;
    assert_eq!(answer.frames.len(), 3);
    let stream = connect(&server.address(), &PLAIN).await?;
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let old = Brings {
        is_old: true,
        ..PLAIN
    };
    connect(&server.address(), &old).await?;
    let page = get(&server.operations()?, "/livez", CA).await?;
    assert!(
        page.starts_with("HTTP/1.1 200") && page.ends_with("alive\n"),
        "{page}"
    );
    // Each speaks one protocol.
    let h1 = Brings {
        alpn: "http/1.1",
        ..PLAIN
    };
    assert!(connect(&server.address(), &h1).await.is_err());
    assert!(connect(&server.operations()?, &PLAIN).await.is_err());

    for address in [server.address(), server.operations()?] {
        let mut socket = TcpStream::connect(&address).await?;
        socket
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("https://\r\n"),
            "{answer}"
        );
    }
    let plain = Client::connect(&server.address()).await;
    let call = async {
        let answer = plain?
            .infer_batch_composite(windows_request("a", &[1.0]))
            .await;
        anyhow::Ok(answer?)
    };
    assert!(call.await.is_err());
    Ok(())
}

#[tokio::test]
async fn who_must_have_a_certificate_has_one_of_the_authority() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml =
        "server: {tls: {cert: cert.pem, key: key.pem, client_ca: clients.pem, min_version: 1.3}}\n";
    let server = server(folder.path(), yaml).await?;
    let with = Brings {
        has_certificate: true,
        ..PLAIN
    };
    connect(&server.address(), &with).await?;
    assert!(connect(&server.address(), &PLAIN).await.is_err());
    let old = Brings {
        is_old: true,
        ..with
    };
    assert!(connect(&server.address(), &old).await.is_err());
    assert!(
        client(&server, CA).await.is_err() || {
            let answer = client(&server, CA).await?;
            answer
                .infer_batch_composite(windows_request("a", &[1.0]))
                .await
                .is_err()
        }
    );
    Ok(())
}

#[tokio::test]
async fn the_name_on_a_certificate_says_which_tenant_calls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tls = "tls: {cert: cert.pem, key: key.pem, client_ca: clients.pem}";
    let key = "key-of-admin-012345";
    let hash = Digest::of(key.as_bytes()).context("a key")?.hex();
    let yaml = format!(
        "server: {{{tls}}}\noperations: {{{tls}}}\ntenants:\n  acme: {{certificates: [acme], models: [a]}}\n  \
         admin: {{admin: true, keys: {{k: {{sha256: {hash}}}}}}}\n"
    );
    let server = server(folder.path(), &yaml).await?;
    let (_, port) = server
        .address()
        .rsplit_once(':')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .context("a port")?;
    let ours = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(CA))
        .identity(Identity::from_pem(CLIENT, CLIENT_KEY));
    let channel = Endpoint::from_shared(format!("https://localhost:{port}"))?
        .tls_config(ours)?
        .connect()
        .await?;
    let mut admin = ModelAdminClient::new(channel);
    let list = admin.list_models(v1::ListModelsRequest {}).await?;
    assert_eq!(list.into_inner().models.len(), 1);
    let unload = v1::UnloadModelRequest {
        model_id: "a".to_owned(),
    };
    let refused = admin.unload_model(unload).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let page = server.operations()?;
    let with = Brings {
        has_certificate: true,
        ..PAGE
    };
    let first = async |path, headers: &str| {
        let answer = ask(&page, path, &with, headers).await?;
        anyhow::Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    assert!(first("/api/models", "").await?.ends_with("200 OK"));
    assert!(first("/api/stats", "").await?.contains("403"));
    let with_key = format!("authorization: Bearer {key}\r\n");
    assert!(first("/api/stats", &with_key).await?.ends_with("200 OK"));
    let wrong = "authorization: Bearer nobody\r\n";
    assert!(first("/api/models", wrong).await?.contains("401"));
    Ok(())
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_no_session_notices() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = server(folder.path(), BOTH).await?;
    let samples = babble(1, 640 * 10);
    let before = client(&server, CA).await?;
    let mut session = Session::over(&before, pcm_session("a")).await?;
    assert!(matches!(session.next().await?, Some(Answer::Opened(_))));
    session.audio(1, &samples);
    // One file first: they do not fit together, and the old ones stay.
    put(folder.path(), "server-2-key.pem", "key.pem")?;
    let reload = server.running().shared().reload.clone();
    // This server has no file of its own, but reads its certificates again by itself.
    assert!(
        reload
            .reload(lipsync_server::reload::Cause::Request)
            .await
            .is_err()
    );
    client(&server, CA).await?;
    put(folder.path(), "server-2.pem", "cert.pem")?;
    let begun = Instant::now();
    while client(&server, CA_2).await.is_err() {
        ensure!(
            begun.elapsed() < PATIENCE,
            "the new certificate is not taken"
        );
    }
    assert!(client(&server, CA).await.is_err());
    while get(&server.operations()?, "/livez", CA_2).await.is_err() {
        ensure!(
            begun.elapsed() < PATIENCE,
            "the new certificate is not taken there"
        );
    }
    session.audio(1, &samples);
    session.half_close();
    assert_eq!(frames(&session.rest().await?).len(), 20);
    before
        .infer_batch_composite(windows_request("a", &[1.0]))
        .await?;
    Ok(())
}

/// Why a server with these files does not start.
async fn start_error(folder: &Path, tls: &str) -> Result<Option<StartError>> {
    let yaml = format!(
        "server: {{port: '127.0.0.1:0', tls: {{{tls}}}}}\noperations: {{enabled: false}}\n"
    );
    let config = Config::parse(&yaml, &folder.join("config.yaml"), [])?;
    Ok(Server::bind(config, Arc::new(FakeLoader::default()))
        .await
        .err())
}

async fn refused_with(folder: &Path, cases: &[(&str, &str)]) -> Result<()> {
    for (tls, words) in cases {
        let error = start_error(folder, tls).await?.context("it starts")?;
        assert!(matches!(error, StartError::Tls(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{tls}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said_at_the_start() -> Result<()> {
    let folder = tempfile::tempdir()?;
    drop(server(folder.path(), "").await?);
    fs::write(folder.path().join("empty.pem"), "")?;
    fs::write(
        folder.path().join("secret.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )?;
    put(folder.path(), "client-key.pem", "other-key.pem")?;
    let cases = [
        ("cert: none.pem, key: key.pem", "server.tls.cert: "),
        (
            "cert: cert.pem, key: none.pem",
            "none.pem: cannot be read: No such file",
        ),
        (
            "cert: empty.pem, key: key.pem",
            "empty.pem: there is no PEM certificate in it",
        ),
        (
            "cert: cert.pem, key: cert.pem",
            "cert.pem: there is no PEM private key in it",
        ),
        (
            "cert: cert.pem, key: secret.pem",
            "store it without a pass phrase",
        ),
        ("cert: cert.pem, key: other-key.pem", "server.tls.key: "),
        (
            "cert: cert.pem, key: other-key.pem",
            "it is not the key of ",
        ),
        (
            "cert: cert.pem, key: key.pem, client_ca: empty.pem",
            "server.tls.client_ca: ",
        ),
    ];
    refused_with(folder.path(), &cases).await
}

#[tokio::test]
async fn files_in_another_form_are_named_and_a_mark_is_skipped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    drop(server(folder.path(), "").await?);
    put(folder.path(), "client-key.pem", "other-key.pem")?;
    put(folder.path(), "p521-key.pem", "p521-key.pem")?;
    fs::write(path("cert.der"), [0x30, 0x82, 1, 0xb9, 0x30])?;
    let whole = fs::read(path("cert.pem"))?;
    fs::write(path("half.pem"), &whole[..100])?;
    let wide: Vec<u8> = whole.iter().flat_map(|&byte| [byte, 0]).collect();
    fs::write(path("wide.pem"), wide)?;
    fs::write(path("two.pem"), whole.repeat(2))?;
    let cases = [
        (
            "cert: two.pem, key: other-key.pem",
            "two.pem, whose first certificate must be the server's own",
        ),
        (
            "cert: cert.pem, key: p521-key.pem",
            "p521-key.pem: expected a key of RSA with at least 2048 bits, ECDSA",
        ),
        (
            "cert: cert.der, key: key.pem",
            "this is DER or PKCS #12, and PEM is expected",
        ),
        ("cert: wide.pem, key: key.pem", "this is UTF-16"),
        (
            "cert: half.pem, key: key.pem",
            "it ends in the middle of a certificate",
        ),
    ];
    refused_with(folder.path(), &cases).await?;
    for name in ["cert.pem", "key.pem"] {
        let whole = fs::read(path(name))?;
        fs::write(path(name), [b"\xef\xbb\xbf", whole.as_slice()].concat())?;
    }
    let refused = start_error(folder.path(), "cert: cert.pem, key: key.pem").await?;
    assert!(refused.is_none(), "{refused:?}");
    Ok(())
}

#[test]
fn what_is_wrong_with_the_keys_is_said_when_they_are_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (tls, words) in [
        (
            "cert: cert.pem",
            "goes with server.tls.key, which is missing",
        ),
        (
            "client_ca: cert.pem",
            "goes with server.tls.cert, which is missing",
        ),
        (
            "cert: a, key: b, min_version: 1.1",
            "expected 1.2 or 1.3, found \"1.1\"",
        ),
    ] {
        let yaml = format!("server: {{tls: {{{tls}}}}}\n");
        let error = Config::parse(&yaml, &folder.path().join("config.yaml"), []).unwrap_err();
        assert!(error.to_string().contains(words), "{tls}: {error}");
    }
    Ok(())
}
