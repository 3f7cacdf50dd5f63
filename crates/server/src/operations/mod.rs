//! The operations port: HTTP for people and their tools, beside gRPC.
//!
//! `/` is the page that speaks in the browser, `/session` a WebSocket that carries a
//! `StreamComposite` (see [`session`]), `/api/...` what the page's panel shows and the pictures around faces
//! ([`backgrounds`]), `/livez` and `/readyz` what orchestrators ask. Everything the page needs is inside the binary
//! ([`assets`]). There is no
//! authentication here: another site's page may not use a visitor's browser to open a session
//! ([`origin`]; it could if it made its own name stand for this address, which only a proxy that checks
//! `Host` keeps out), and whoever reaches the port may do what the page does.

mod api;
mod assets;
mod backgrounds;
mod connections;
mod context;
mod cross_origin;
mod inflow;
mod origin;
mod preface;
mod routes;
mod session;

use std::{io, net::SocketAddr, sync::Arc};

use lipsync_core::saturate::usize_of;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use context::Context;

use crate::{
    config::{self, Origin},
    core_state::Shared,
    listen::listen,
    request_layer::Shapes,
    transport::accept,
};

/// Connections beside those of sessions: pages, probes, scrapers.
const SPARE_CONNECTIONS: usize = 64;
/// Of the files that the process may open, connections of this port take this part at most, and of few files not all:
/// those of gRPC must not run out because of them.
const FILES_SHARE: u64 = 8;
const MIN_CONNECTIONS: u64 = 16;

/// A port that listens but serves nothing yet.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    allowed_origins: Arc<[Origin]>,
}

/// A port that serves until it is closed or dropped.
#[derive(Debug)]
pub(crate) struct Operations {
    address: SocketAddr,
    close: watch::Sender<()>,
    serving: JoinHandle<()>,
}

impl Listening {
    /// Takes the port.
    pub(crate) async fn bind(config: &config::Operations) -> io::Result<Self> {
        let listener = listen(config.address)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            allowed_origins: config.allowed_origins.as_slice().into(),
        })
    }

    /// Begins to serve.
    pub(crate) fn serve(self, shared: Arc<Shared>) -> Operations {
        let (close, closing) = watch::channel(());
        let places = accept::places(
            max_connections(shared.session.max_sessions),
            shared.limits.peer_share_percent,
        );
        let uploads = shared.admission.uploads().clone();
        let context = Context {
            shared,
            shapes: Shapes::of_contract(),
            allowed_origins: self.allowed_origins,
            closing: closing.clone(),
        };
        let router = routes::router(context);
        let serving = connections::serve(self.listener, router, places, uploads, closing);
        Operations {
            address: self.address,
            close,
            serving: tokio::spawn(serving),
        }
    }
}

/// Connections that there may be in addition to this many sessions.
fn max_connections(max_sessions: usize) -> usize {
    let share = (accept::max_files() / FILES_SHARE).max(MIN_CONNECTIONS);
    let share = usize_of(share);
    max_sessions.saturating_add(SPARE_CONNECTIONS).min(share)
}

impl Operations {
    /// Where it listens; the port is the real one even if 0 was configured.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes: no new connection, sessions that are left are cut, answers are finished for a moment.
    pub(crate) async fn close(self) {
        drop(self.close);
        if self.serving.await.is_err() {
            tracing::error!("the operations port did not close cleanly");
        }
    }
}
