//! The loop that accepts the connections of a port: each gets a place, or is refused.
//!
//! There is one for both ports, encrypted or not. What is spoken is a [`Protocol`].

use std::{sync::Arc, time::Duration};

use lipsync_serving::{gate::Gate, peer::Peer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::seat::{Seat, closed};
use crate::{first_bytes::Socket, telemetry::Traffic, tls};

/// Pause after a failed accept: usually the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a port speaks with its clients.
pub(crate) trait Protocol: Clone + Send + 'static {
    /// Serves one connection until its end.
    fn converse(
        self,
        socket: impl Socket,
        seat: Seat,
        closing: watch::Receiver<()>,
    ) -> impl Future<Output = ()> + Send;

    /// Ends a connection for which there is no place. Never waits.
    fn refuse(&self, socket: TcpStream) {
        drop(socket);
    }
}

/// Where connections come in.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    /// How the port is encrypted, if it is.
    pub(crate) tls: Option<Arc<tls::Port>>,
    /// How many connections there may be.
    pub(crate) places: Arc<Gate>,
    /// Counts the connections that got a place, from before they shake hands.
    pub(crate) traffic: Arc<Traffic>,
}

impl Door {
    /// Accepts connections until the port closes; gives what is left of them.
    pub(crate) async fn accept(
        self,
        protocol: impl Protocol,
        mut closing: watch::Receiver<()>,
    ) -> JoinSet<()> {
        let still_open = closing.clone();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = closed(&mut closing) => return connections,
                Some(_ended) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = self.places.take(Peer::new(address.ip()), 1) else {
                tracing::warn!(%address, "too many connections: closing a new one");
                protocol.refuse(socket);
                continue;
            };
            // Only slower without.
            let _set = socket.set_nodelay(true);
            let (protocol, tls) = (protocol.clone(), self.tls.clone());
            let (connected, closing) = (self.traffic.connected(), still_open.clone());
            // Now, not when the task begins: until then it could not give way.
            let seat = Seat::new(place, address);
            connections.spawn(async move {
                let _connected = connected;
                serve(protocol, tls, socket, seat, closing).await;
            });
        }
    }
}

/// One connection until its end: in the clear, or inside the encryption.
async fn serve(
    protocol: impl Protocol,
    tls: Option<Arc<tls::Port>>,
    socket: TcpStream,
    seat: Seat,
    closing: watch::Receiver<()>,
) {
    let Some(tls) = tls else {
        return protocol.converse(socket, seat, closing).await;
    };
    if let Some((socket, seat)) = tls.begin(socket, seat, closing.clone()).await {
        protocol.converse(socket, seat, closing).await;
    }
}
