//! The operations port: HTTP for people and their tools, beside gRPC.
//!
//! `/` is the page that speaks in the browser, `/session` a WebSocket that carries a
//! `StreamComposite` (see [`session`]), `/api/...` what the page's panel shows and the pictures around faces
//! ([`backgrounds`]), `/metrics` what Prometheus scrapes, `/livez` and `/readyz` what orchestrators ask. Everything the
//! page needs is inside the binary ([`assets`]). There is no
//! authentication here: another site's page may not use a visitor's browser to open a session
//! ([`origin`]; it could if it made its own name stand for this address, which only a proxy that checks
//! `Host` keeps out), and whoever reaches the port may do what the page does.

mod advice;
mod api;
mod assets;
mod backgrounds;
mod connections;
mod context;
mod cross_origin;
mod inflow;
mod metrics;
mod openapi;
mod origin;
mod pace;
mod past;
mod preface;
mod reload;
mod resources;
mod rounds;
mod routes;
mod session;
mod speech;
mod spoken;
mod tenants;
mod unwritten;
mod visitor;
mod web_frames;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use lipsync_core::saturate::usize_of;
use lipsync_serving::gate::Gate;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use connections::REUSE_LIMIT;
use context::Context;

use crate::{
    config::{self, Hot, Origin, TextToSpeech},
    core_state::Shared,
    listen::listen,
    request_layer::Shapes,
    tls,
    transport::{Door, max_files, places},
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
    tls: Option<Arc<tls::Port>>,
    address: SocketAddr,
    allowed_origins: Arc<[Origin]>,
    text_to_speech: Arc<TextToSpeech>,
}

/// A port that serves until it is closed or dropped.
#[derive(Debug)]
pub(crate) struct Operations {
    address: SocketAddr,
    close: watch::Sender<()>,
    serving: JoinHandle<()>,
    following: JoinHandle<()>,
}

impl Listening {
    /// Takes the port.
    pub(crate) async fn bind(
        config: &config::Operations,
        tls: Option<Arc<tls::Port>>,
    ) -> io::Result<Self> {
        let listener = listen(config.address)?;
        Ok(Self {
            tls,
            address: listener.local_addr()?,
            listener,
            allowed_origins: config.allowed_origins.as_slice().into(),
            text_to_speech: Arc::new(config.text_to_speech.clone()),
        })
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Begins to serve.
    pub(crate) fn serve(self, shared: Arc<Shared>) -> Operations {
        let (close, closing) = watch::channel(());
        let places = places(
            max_connections(shared.hot().session.max_sessions),
            shared.limits.peer_share_percent,
        );
        let following = tokio::spawn(follow(shared.live.watch(), Arc::clone(&places)));
        let door = Door {
            listener: self.listener,
            tls: self.tls,
            places,
            traffic: Arc::clone(&shared.figures.operations_port),
        };
        let tells_peers_apart = shared.limits.tells_peers_apart();
        let uploads = shared.admission.uploads().clone();
        let age = shared.limits.max_age.after;
        let reuse_limit = age.map_or(REUSE_LIMIT, |age| age.min(REUSE_LIMIT));
        let context = Context {
            pages: Arc::default(),
            web_sessions: tells_peers_apart.then(Arc::default),
            shared,
            shapes: Shapes::of_contract(),
            allowed_origins: self.allowed_origins,
            text_to_speech: self.text_to_speech,
            closing: closing.clone(),
        };
        let turns = tells_peers_apart.then(Arc::default);
        let router = routes::router(context, turns);
        let serving = connections::serve(door, router, uploads, reuse_limit, closing);
        Operations {
            address: self.address,
            close,
            serving: tokio::spawn(serving),
            following,
        }
    }
}

/// Keeps the number of connections in step with that of sessions.
async fn follow(mut hot: watch::Receiver<Arc<Hot>>, places: Arc<Gate>) {
    while hot.changed().await.is_ok() {
        let max_sessions = hot.borrow_and_update().session.max_sessions;
        places.set_limit(max_connections(max_sessions));
    }
}

/// Connections that there may be in addition to this many sessions.
fn max_connections(max_sessions: usize) -> usize {
    let share = (max_files() / FILES_SHARE).max(MIN_CONNECTIONS);
    let share = usize_of(share);
    max_sessions.saturating_add(SPARE_CONNECTIONS).min(share)
}

impl Operations {
    /// Where it listens; the port is the real one even if 0 was configured.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes: no new connection, sessions that are left are cut, answers are finished within `limit`.
    pub(crate) async fn close(self, limit: Duration) {
        drop(self.close);
        self.following.abort();
        let mut serving = self.serving;
        match timeout(limit, &mut serving).await {
            Ok(Ok(())) => {}
            Ok(Err(_panic)) => tracing::error!("the operations port did not close cleanly"),
            // Connections end with it.
            Err(_elapsed) => serving.abort(),
        }
    }
}
