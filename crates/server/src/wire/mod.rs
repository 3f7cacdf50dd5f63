//! The contract: what comes over the wire becomes a value of the server's own, and what it makes becomes a
//! message again.

pub(crate) mod session;
