//! What the tests share: servers on port 0, avatars made on the spot, networks that can be held.

pub mod avatar;
pub mod fake;
pub mod server;
pub mod speech;

pub use fake::{FakeLoader, Gate, HeldGate};
pub use server::TestServer;
