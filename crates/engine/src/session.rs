//! What one worker owns of the engine.

/// The memory that runs of a network need, grown on demand and kept between runs: one per worker
/// thread, shared by all networks that the worker runs.
#[derive(Debug, Default)]
pub struct Session {
    arena: Vec<f32>,
}

impl Session {
    /// A session that owns nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held now.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        u64::try_from(self.arena.capacity() * size_of::<f32>()).unwrap_or(u64::MAX)
    }
}
