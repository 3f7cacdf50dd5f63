//! What the tests share: servers on port 0, avatars made on the spot, networks that can be held.

pub mod avatar;
pub mod http;
pub mod link;
pub mod process;
pub mod raw;
pub mod schema;
pub mod server;
pub mod silent;
pub mod socket;
pub mod speech;
pub mod tls;

use std::time::Duration;

pub use http::Http;
pub use lipsync_testing::{FakeLoader, Gate, GatedLoader, HeldGate};
pub use raw::RawClient;
pub use server::TestServer;
pub use socket::Socket;

/// No wait is meant to end by this.
pub const PATIENCE: Duration = Duration::from_secs(60);
