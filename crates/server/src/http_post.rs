//! One `POST` to an address of http or https: a connection, an answer, and the end.

use std::{future::ready, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};

const AGENT: &str = concat!("lipsync-server/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. The text names neither path nor query of the address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error("the address has no host")]
    NoHost,
    #[error("no answer within {} ms", .0.as_millis())]
    TooSlow(Duration),
    #[error("the host is not found: {0}")]
    NotFound(io::Error),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("TLS: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("TLS: {0}")]
    Setup(#[from] tokio_rustls::rustls::Error),
    #[error("TLS: no authorities are known on this machine: {0}")]
    NoRoots(String),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Posts a text of JSON within a time, from the look-up of the name to the status of the answer.
///
/// # Errors
/// See [`PostError`]. What the answer says beside its status is not read.
pub(crate) async fn post_json(
    url: &Uri,
    body: Bytes,
    limit: Duration,
) -> Result<StatusCode, PostError> {
    let status = |answer: Response<Incoming>| ready(Ok(answer.status()));
    post(url, ("application/json", body), limit, status).await
}

/// Posts a body of some type within a time, from the look-up of the name to what `take` makes of the answer.
///
/// # Errors
/// See [`PostError`].
pub(crate) async fn post<T, F>(
    url: &Uri,
    content: (&'static str, Bytes),
    limit: Duration,
    take: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, PostError>
where
    F: Future<Output = Result<T, PostError>>,
{
    let posting = timeout(limit, try_to_post(url, content, take));
    posting.await.unwrap_or(Err(PostError::TooSlow(limit)))
}

async fn try_to_post<T, F>(
    url: &Uri,
    (content_type, body): (&'static str, Bytes),
    take: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, PostError>
where
    F: Future<Output = Result<T, PostError>>,
{
    let is_encrypted = url.scheme() == Some(&http::uri::Scheme::HTTPS);
    let host = url.host().ok_or(PostError::NoHost)?;
    let port = url
        .port_u16()
        .unwrap_or(if is_encrypted { 443 } else { 80 });
    let socket = connect(host, port).await?;
    let authority = url.authority().map_or(host, |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, AGENT)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONNECTION, "close")
        .body(Full::new(body))?;
    if is_encrypted {
        let name = ServerName::try_from(bare(host).to_owned())?;
        let config = tokio::task::spawn_blocking(trusting_this_machine).await??;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, socket);
        talk(connecting.await.map_err(PostError::Tls)?, request, take).await
    } else {
        talk(socket, request, take).await
    }
}

/// An address of IP version 6 without its brackets.
fn bare(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// To the first address of the host that answers.
async fn connect(host: &str, port: u16) -> Result<TcpStream, PostError> {
    let found = tokio::net::lookup_host((bare(host), port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(PostError::NotFound)?.collect();
    TcpStream::connect(addresses.as_slice())
        .await
        .map_err(PostError::Connect)
}

/// Whoever this machine trusts; `SSL_CERT_FILE` names others. Blocking.
fn trusting_this_machine() -> Result<ClientConfig, PostError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (n_good, _) = roots.add_parsable_certificates(found.certs);
    if n_good == 0 {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(PostError::NoRoots(errors.join(", ")));
    }
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn talk<T, F>(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    take: impl FnOnce(Response<Incoming>) -> F,
) -> Result<T, PostError>
where
    F: Future<Output = Result<T, PostError>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let answer = async { take(sender.send_request(request).await?).await };
    let (mut answer, connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        found = &mut answer => found,
        // What came before the connection ended is still there; or else the answer says what was wrong.
        _ended = connection => answer.await,
    }
}
