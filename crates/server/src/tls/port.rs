//! A port that is encrypted, with whatever its files hold at the moment.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use lipsync_core::{Foreign, sync::lock};
use lipsync_serving::{
    peer::Peer,
    starts::{StartRate, Starts},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{ServerConfig, server::Acceptor},
    server::TlsStream,
};

use super::{
    files::{Material, TlsError, load},
    name::ClientName,
    records::{Allowance, Counted, Side},
};
use crate::{
    change::{Debounce, Print},
    config::Tls,
    first_bytes::{Begun, Socket, Spoken},
    transport::Seat,
};

/// For a client to say the first bytes, and again for the handshake, but for what that waits for its turn.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes of one address. Each costs the server up to some milliseconds and its client a hundred bytes; more than
/// these wait their turn, for as long as a handshake may take.
const HANDSHAKES: StartRate = StartRate {
    per_second: 50,
    burst: 200,
};
/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Files that have not changed for this long are whole, and belong together.
const QUIET: Duration = Duration::from_millis(500);
/// To a client of HTTP/1.1 that does not encrypt.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\ncontent-length: 36\r\n\r\nthis port speaks TLS: use https://\r\n";

/// See the module.
pub(crate) struct Port {
    files: Tls,
    alpn: &'static [u8],
    current: Mutex<Current>,
    /// None where one address stands for many clients.
    starts: Option<Starts>,
}

/// What the files held when they were last good.
struct Current {
    config: Arc<ServerConfig>,
    not_after: Option<SystemTime>,
}

impl From<Material> for Current {
    fn from(material: Material) -> Self {
        Self {
            config: Arc::new(material.config),
            not_after: material.not_after,
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Port {
    /// Reads the files for the first time. `tells_peers_apart`: an address is one client.
    pub(crate) fn new(
        files: Tls,
        alpn: &'static [u8],
        tells_peers_apart: bool,
    ) -> Result<Arc<Self>, TlsError> {
        let current = load(&files, alpn)?;
        Ok(Arc::new(Self {
            files,
            alpn,
            current: Mutex::new(current.into()),
            starts: tells_peers_apart.then(Starts::default),
        }))
    }

    /// Reads the files again, for the connections to come. Blocks on the file system.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let new = load(&self.files, self.alpn)?;
        *lock(&self.current) = new.into();
        Ok(())
    }

    /// Its section of the configuration.
    pub(crate) fn section(&self) -> &'static str {
        self.files.section
    }

    /// When its certificate, or one that leads to the authority, ends.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        lock(&self.current).not_after
    }

    /// The socket inside the encryption, and the seat, with the name of a client that has a certificate. `None`: the client is gone,
    /// does not encrypt, is not trusted, does not trust us or is too slow; or its place is needed, or the port closes.
    pub(crate) async fn begin<S: Socket>(
        self: Arc<Self>,
        socket: S,
        mut seat: Seat,
        closing: watch::Receiver<()>,
    ) -> Option<(impl Socket, Seat)> {
        let allowance = Allowance::new();
        let socket = Counted {
            socket,
            allowance: allowance.clone(),
            side: Side::Outside,
        };
        let greeting = self.shake_hands(socket, seat.peer, seat.address);
        let begun = seat.unless_over(closing, greeting).await??;
        let (_, session) = begun.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        seat.client = certificate.and_then(|certificate| ClientName::of(certificate));
        if let Some(client) = &seat.client {
            let (address, client) = (seat.address, Foreign(client.as_str()));
            tracing::debug!(%address, %client, "a client has shown its certificate");
        }
        let inside = Counted {
            socket: begun,
            allowance,
            side: Side::Inside,
        };
        Some((inside, seat))
    }

    async fn shake_hands<S: Socket>(
        self: Arc<Self>,
        socket: S,
        peer: Peer,
        address: SocketAddr,
    ) -> Option<TlsStream<impl Socket>> {
        let begun = Begun::hear(socket, HANDSHAKE_LIMIT).await?;
        if begun.spoken != Spoken::Tls {
            tracing::warn!(
                peer = %address,
                what = self.files.section,
                "a client without TLS came to a port with TLS: use https:// (a secure channel)"
            );
            if begun.spoken == Spoken::Http1 {
                begun.turn_away(PLAIN).await;
            }
            return None;
        }
        let error = match self.answer(begun.socket(), peer).await? {
            Ok(stream) => return Some(stream),
            Err(error) => error,
        };
        let what = self.files.section;
        tracing::info!(peer = %address, %error, what, "a TLS handshake failed");
        None
    }

    /// Reads the client's hello, and then answers it, in the turn of its address: only the answer costs anything, so that
    /// whoever says half a hello takes nobody's turn. `None`: there is no turn for it in time.
    async fn answer<S: Socket>(&self, socket: S, peer: Peer) -> Option<io::Result<TlsStream<S>>> {
        let until = tokio::time::Instant::now() + HANDSHAKE_LIMIT;
        let too_slow = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket);
        let hello = timeout_at(until, hello).await.map_err(too_slow);
        let hello = match hello.flatten() {
            Ok(hello) => hello,
            Err(error) => return Some(Err(error)),
        };
        let turn = match &self.starts {
            // It has its connection's place meanwhile, which goes to others where they need it.
            Some(starts) => starts.wait(&peer, HANDSHAKES, HANDSHAKE_LIMIT)?,
            None => Duration::ZERO,
        };
        sleep(turn).await;
        let config = Arc::clone(&lock(&self.current).config);
        let answered = timeout_at(until + turn, hello.into_stream(config)).await;
        Some(answered.map_err(too_slow).flatten())
    }

    /// What tells whether the files are others. Blocks on the file system.
    fn prints(&self) -> Option<Vec<Print>> {
        let Tls {
            cert,
            key,
            client_ca,
            ..
        } = &self.files;
        let files = [Some(cert), Some(key), client_ca.as_ref()];
        files
            .into_iter()
            .flatten()
            .map(|file| Print::of(file))
            .collect()
    }
}

/// Reads the files again when they have changed. Never returns.
pub(crate) async fn follow(port: Arc<Port>) {
    let mut changed = Debounce::new(QUIET);
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What is there at first has just been read.
    let mut is_first = true;
    loop {
        looks.tick().await;
        let looking = Arc::clone(&port);
        let looked = tokio::task::spawn_blocking(move || looking.prints()).await;
        if !changed.look(Instant::now(), looked.ok().flatten()) {
            continue;
        }
        let reading = Arc::clone(&port);
        let what = port.files.section;
        match tokio::task::spawn_blocking(move || reading.reload()).await {
            Ok(Ok(())) if is_first => {}
            Ok(Ok(())) => tracing::info!(what, "the certificate was read again"),
            Ok(Err(error)) => {
                tracing::error!(what, "the certificate stays as it was: {error}");
            }
            Err(panic) => tracing::error!(%panic, what, "the certificate could not be read again"),
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName,
    };

    use super::*;
    use crate::{config::TlsVersion, transport::places};

    fn port() -> Arc<Port> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tls");
        let files = Tls {
            section: "server.tls",
            cert: data.join("server.pem"),
            key: data.join("server-key.pem"),
            client_ca: None,
            min_version: TlsVersion::V1_2,
        };
        Port::new(files, b"h2", true).unwrap()
    }

    /// What a client says first.
    fn hello() -> Vec<u8> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut said = Vec::new();
        client.write_tls(&mut said).unwrap();
        said
    }

    fn seat() -> Seat {
        let place = places(1, 100).take(lipsync_serving::peer::Peer::UNKNOWN, 1);
        Seat::new(place.unwrap(), ([127, 0, 0, 1], 1).into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_finish_the_handshake_is_not_waited_for() {
        let port = port();
        let (_close, closing) = watch::channel(());
        // Nothing, half a word, half a record, and a record that is too long.
        let cases: [(&[u8], Duration); 4] = [
            (b"", HANDSHAKE_LIMIT),
            (b"\x16", HANDSHAKE_LIMIT),
            (b"\x16\x03\x01\x02\0\x01", HANDSHAKE_LIMIT),
            (b"\x16\x03\x01\xff\xff\0", Duration::ZERO),
        ];
        for (said, limit) in cases {
            let (mut client, server) = duplex(4096);
            client.write_all(said).await.unwrap();
            let begun = tokio::time::Instant::now();
            let begun_at = Arc::clone(&port).begin(server, seat(), closing.clone());
            assert!(begun_at.await.is_none());
            assert_eq!(begun.elapsed(), limit, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_ends_with_its_place_and_with_the_port() {
        let port = port();
        let places = places(1, 100);
        let peer = lipsync_serving::peer::Peer::UNKNOWN;
        let address = ([127, 0, 0, 1], 1).into();
        let seat = Seat::new(places.take(peer, 1).unwrap(), address);
        let (close, closing) = watch::channel(());
        let (_client, server) = duplex(4096);
        let waiting = Arc::clone(&port).begin(server, seat, closing.clone());
        let newcomer = async { places.take(peer, 1).unwrap() };
        let (begun, newcomer) = tokio::join!(waiting, newcomer);
        assert!(begun.is_none());
        let seat = Seat::new(newcomer, address);
        let (_client, server) = duplex(4096);
        drop(close);
        assert!(port.begin(server, seat, closing).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_encrypt_is_told() {
        let (_close, closing) = watch::channel(());
        let (mut client, server) = duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let talk = async {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            drop(client);
            heard
        };
        let (begun, heard) = tokio::join!(port().begin(server, seat(), closing), talk);
        assert!(begun.is_none());
        assert_eq!(heard, PLAIN);
        let (head, body) =
            PLAIN.split_at(PLAIN.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4);
        let length = format!("content-length: {}\r\n", body.len());
        assert!(std::str::from_utf8(head).unwrap().contains(&length));
    }

    /// Each costs more to answer than to ask for.
    #[tokio::test(start_paused = true)]
    async fn handshakes_of_one_address_have_a_rate() {
        let port = port();
        let (_close, closing) = watch::channel(());
        // Asks, and goes before it has heard the answer.
        let asks = async |hello: &[u8]| {
            let (mut client, server) = duplex(4096);
            client.write_all(hello).await.unwrap();
            let gone = async move { client.shutdown().await.unwrap() };
            let begun = Arc::clone(&port).begin(server, seat(), closing.clone());
            assert!(tokio::join!(begun, gone).0.is_none());
        };
        let hello = hello();
        let begun = tokio::time::Instant::now();
        for _ in 0..HANDSHAKES.burst {
            asks(&hello).await;
            // Half of one is not answered, and takes no turn.
            asks(&hello[..hello.len() / 2]).await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..HANDSHAKES.per_second {
            asks(&hello).await;
        }
        let took = begun.elapsed();
        let second = Duration::from_secs(1);
        assert!(took.abs_diff(second) < second / 10, "{took:?}");
    }
}
