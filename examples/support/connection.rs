//! The connection to the server.

use anyhow::Context as _;
use lipsync::client::Client;

/// Connects, and says what to do when nobody is there.
pub async fn connect(address: &str) -> anyhow::Result<Client> {
    Client::connect(address).await.with_context(|| {
        format!(
            "no server answers at {address}: start one with `cargo run --release` in another terminal"
        )
    })
}
