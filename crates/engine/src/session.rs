//! What one worker owns of the engine.

use crate::kernels::AlignedFloats;

/// The memory that runs of a network need, grown on demand and kept between runs: one per worker
/// thread, shared by all networks that the worker runs.
#[derive(Debug)]
pub struct Session {
    /// Tensors; each network's plan says which of its values lie in which.
    pub(crate) slots: Vec<AlignedFloats>,
    /// Working memory of a single step.
    pub(crate) scratch: AlignedFloats,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            scratch: AlignedFloats::zeroed(0),
        }
    }
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
        let held = self
            .slots
            .iter()
            .chain([&self.scratch])
            .map(AlignedFloats::bytes);
        held.map(|n| n as u64).sum()
    }

    /// Makes every slot and the working memory as large as a plan needs them. What they hold is
    /// whatever the last run left.
    pub(crate) fn reserve(&mut self, slot_floats: &[usize], scratch_floats: usize) {
        if self.slots.len() < slot_floats.len() {
            self.slots
                .resize_with(slot_floats.len(), || AlignedFloats::zeroed(0));
        }
        let wanted = slot_floats.iter().copied().chain([scratch_floats]);
        for (held, n) in self
            .slots
            .iter_mut()
            .take(slot_floats.len())
            .chain([&mut self.scratch])
            .zip(wanted)
        {
            if held.len() < n {
                *held = AlignedFloats::zeroed(n);
            }
        }
    }
}
