//! The connection to the server.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::builder::{PathBufValueParser, TypedValueParser};
use lipsync::{
    client::{Client, ConnectError, ConnectOptions},
    plain_path,
};

/// The parser of every option that takes a path.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(plain_path::argument)
}

/// The server's address and certificates.
#[derive(clap::Args)]
pub struct Connection {
    /// Server address: host:port, or https://host:port for TLS.
    #[arg(long, default_value = "127.0.0.1:50051")]
    addr: String,
    /// CA certificates (PEM) to trust for https instead of the system's.
    #[arg(long, value_name = "FILE", env = "LIPSYNC_CA", value_parser = path())]
    ca: Option<PathBuf>,
}

impl Connection {
    /// Connects. The error says how to start a server if none answers.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.ca {
            let pem = plain_path::read_at_most(path, 1 << 20);
            let pem = pem.with_context(|| format!("cannot read --ca {}", path.display()))?;
            options = options.ca_certificate(pem);
        }
        options.connect(&self.addr).await.map_err(|error| {
            let nobody = matches!(
                error,
                ConnectError::Transport { .. } | ConnectError::Timeout { .. }
            );
            let error = anyhow::Error::new(error);
            if nobody {
                error.context(format!(
                    "no server answers at {}: start one with `cargo run --release` in another terminal",
                    self.addr
                ))
            } else {
                error
            }
        })
    }
}
