//! Why a server does not start.

use std::{io, net::SocketAddr};

use lipsync_engine::EngineError;
use lipsync_worker_pool::{LostDevice, PoolError};

use crate::tls::TlsError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The same for the page and the probes.
    #[error(
        "cannot listen on {address} for the page and the probes: {source}; \
         choose another operations.port, or set operations.enabled: false"
    )]
    BindOperations {
        /// The configured address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A port cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The worker pool did not start.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The reflection service could not be built.
    #[error("the descriptor set is broken: {0}")]
    Reflection(String),
    /// A model marked `preload` could not be loaded, and `strict` wants that it is.
    #[error("model {id:?} cannot be preloaded: {detail}")]
    Preload {
        /// Its id.
        id: String,
        /// What is wrong, with paths: this goes to the operator.
        detail: String,
    },
    /// A device failed for good before the server was ready.
    #[error("{} is lost: {}", .0.device, .0.reason)]
    DeviceLost(LostDevice),
    /// A device does not say how much memory it has.
    #[error(transparent)]
    Device(EngineError),
}
