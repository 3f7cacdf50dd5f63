//! Connections that come in on a port: each gets a place, or is refused.
//!
//! What a connection says is for the port to understand ([`super::serve`] and the operations port). Here is only
//! what both have in common: how many there may be, and which one goes when there are too many.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lipsync_serving::{
    activity::Activity,
    gate::{Gate, Rules, Ticket},
    peer::Peer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::tls::ClientName;

/// Pause after a failed accept: usually the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection has of the server.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// Withdrawn where another needs it and nothing goes on here.
    pub(crate) place: Arc<Ticket>,
    pub(crate) activity: Activity,
    pub(crate) peer: Peer,
    pub(crate) address: SocketAddr,
    /// What its certificate calls the client, if it had to show one.
    pub(crate) client: Option<ClientName>,
}

impl Seat {
    /// Of a connection that has just begun.
    pub(crate) fn new(place: Ticket, address: SocketAddr) -> Self {
        let place = Arc::new(place);
        let activity = Activity::new(Arc::clone(&place));
        Self {
            place,
            activity,
            peer: Peer::new(address.ip()),
            address,
            client: None,
        }
    }
}

/// Places for this many connections. An idle one gives way to a new one, the one idle for longest
/// first: a peer that opens many gets rid of its own.
pub(crate) fn places(limit: usize, share_percent: u32) -> Arc<Gate> {
    Gate::new(Rules {
        what: "too many connections",
        limit,
        share_percent,
        // Whose connection it is is not known before its first call.
        tenant_share_percent: 100,
        patience: Some(Duration::ZERO),
    })
}

/// Accepts connections until the port closes; gives what is left of them.
pub(crate) async fn accept<C>(
    listener: TcpListener,
    places: Arc<Gate>,
    mut closing: watch::Receiver<()>,
    converse: impl Fn(TcpStream, Seat) -> C,
    refuse: impl Fn(TcpStream),
) -> JoinSet<()>
where
    C: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = closed(&mut closing) => return connections,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.take(Peer::new(address.ip()), 1) else {
            tracing::warn!(%address, "too many connections: closing a new one");
            refuse(socket);
            continue;
        };
        // Only slower without.
        let _set = socket.set_nodelay(true);
        connections.spawn(converse(socket, Seat::new(place, address)));
    }
}

/// Returns when a port closes: its sender is dropped.
pub(crate) async fn closed(closing: &mut watch::Receiver<()>) {
    // Nothing is ever sent: it ends when the sender is gone.
    while closing.changed().await.is_ok() {}
}

/// How many files the process may open.
pub(crate) fn max_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}
