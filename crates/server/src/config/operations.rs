//! `operations`: the page and the probes.

use std::net::SocketAddr;

use super::{BadValue, address::parse_address, section::section, text::Text};

section! {
    /// `operations`, as it is written.
    RawOperations in "operations";
    cold enabled: bool = true;
    cold port: Text = ":8080";
}

/// `operations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations {
    /// Where HTTP listens.
    pub address: SocketAddr,
}

impl RawOperations {
    /// `None`: off.
    pub(super) fn check(&self) -> Result<Option<Operations>, BadValue> {
        // Checked even when it is off, so that switching it on brings no surprise.
        let address = parse_address("operations.port", self.port())?;
        Ok(self.enabled().then_some(Operations { address }))
    }
}
