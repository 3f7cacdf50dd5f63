//! `operations`: the page and the probes.

use std::net::SocketAddr;

use super::{BadValue, Origin, address::parse_address, section::section, text::Text};

/// Origins, as they are written.
type Origins = Vec<String>;

section! {
    /// `operations`, as it is written.
    RawOperations in "operations";
    cold enabled: bool = true;
    cold port: Text = ":8080";
    cold allowed_origins: Origins;
}

/// `operations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations {
    /// Where HTTP listens.
    pub address: SocketAddr,
    /// Whose pages may open sessions, besides those of this port.
    pub allowed_origins: Vec<Origin>,
}

impl RawOperations {
    /// `None`: off.
    pub(super) fn check(&self) -> Result<Option<Operations>, BadValue> {
        // Checked even when it is off, so that switching it on brings no surprise.
        let address = parse_address("operations.port", self.port())?;
        let origins = self.allowed_origins.iter().flatten();
        let allowed_origins = origins
            .map(|text| Origin::parse("operations.allowed_origins", text))
            .collect::<Result<_, _>>()?;
        Ok(self.enabled().then_some(Operations {
            address,
            allowed_origins,
        }))
    }
}
