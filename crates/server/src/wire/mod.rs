//! The contract: what comes over the wire becomes a value of the server's own, and what it makes becomes a
//! message again. Messages, headers and statuses are named here and at the ports, and nowhere else.

pub mod answer;
pub mod headers;
pub mod load_report;
pub mod request;
pub(crate) mod session;
pub mod status;
