//! What a connection has of the server: a place among the connections of its port.
//!
//! What a connection says is for the port to understand ([`super::serve`] and the operations port). Here is only
//! what both have in common: how many there may be, and which one gives way when there are too many.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lipsync_serving::{
    activity::Activity,
    gate::{Gate, Rules, Ticket},
    peer::Peer,
};
use tokio::sync::watch;

use crate::tls::ClientName;

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

    /// Does something unless this connection is over first: its place is needed, or its port closes.
    pub(crate) async fn unless_over<T>(
        &self,
        mut closing: watch::Receiver<()>,
        doing: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            done = doing => Some(done),
            () = self.place.withdrawn() => None,
            () = closed(&mut closing) => None,
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
