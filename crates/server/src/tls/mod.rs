//! Encrypted ports.
//!
//! A port has its certificate, key and authorities from files (`files`) and reads them again when they change
//! (`port`). Connections that are there go on with what they began with. A handshake has its connection's place and
//! ten seconds, and nothing else. What is spoken inside is for the ports to know.

mod der;
mod files;
mod name;
mod port;
mod records;
mod validity;

pub use files::{Material, TlsError, load};
pub(crate) use name::ClientName;
pub(crate) use port::{Port, follow};
