//! Where the server is in its life.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Models marked `preload` are being loaded.
    Starting,
    /// Requests are served.
    Serving,
    /// Still served, but load balancers should look elsewhere.
    Leaving,
    /// No new work.
    Draining,
}
