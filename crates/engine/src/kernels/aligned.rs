//! Floats that start at a cache line.

use std::ops::{Deref, DerefMut};

/// Floats of a cache line, which is also the widest vector.
pub(super) const LINE_FLOATS: usize = 16;

/// A fixed number of floats whose first one starts a 64-byte cache line.
///
/// Any slice may be given to the kernels; but a 64-byte vector that straddles two lines costs two
/// accesses, so weights and activations are best kept in one of these. The alignment is a matter of
/// speed alone: no kernel relies on it.
#[derive(Debug)]
pub struct AlignedFloats {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl AlignedFloats {
    /// `len` zeros.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let storage = vec![0.0; len + LINE_FLOATS];
        // Not every platform can tell (then it says usize::MAX); unaligned is right, only slower.
        let start = storage
            .as_ptr()
            .align_offset(LINE_FLOATS * size_of::<f32>());
        Self {
            storage,
            start: if start < LINE_FLOATS { start } else { 0 },
            len,
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.storage.capacity() * size_of::<f32>()
    }
}

impl Deref for AlignedFloats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedFloats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..self.start + self.len]
    }
}
