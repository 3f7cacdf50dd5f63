//! Numbers that start at a cache line.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, which is also the widest vector.
pub(super) const LINE_BYTES: usize = 64;

/// Floats of a cache line.
pub(super) const LINE_FLOATS: usize = LINE_BYTES / size_of::<f32>();

/// A fixed number of elements whose first one starts a 64-byte cache line.
///
/// Any slice may be given to the kernels; but a 64-byte vector that straddles two lines costs two
/// accesses, so weights and activations are best kept in one of these. The alignment is a matter of
/// speed alone: no kernel relies on it.
#[derive(Debug)]
pub struct Aligned<E> {
    storage: Vec<E>,
    start: usize,
    len: usize,
}

/// Floats that start at a cache line.
pub type AlignedFloats = Aligned<f32>;

impl<E: Copy + Default> Aligned<E> {
    /// `len` zeros.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let line = LINE_BYTES / size_of::<E>();
        let storage = vec![E::default(); len + line];
        // Not every platform can tell (then it says usize::MAX); unaligned is right, only slower.
        let start = storage.as_ptr().align_offset(LINE_BYTES);
        Self {
            storage,
            start: if start < line { start } else { 0 },
            len,
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.storage.capacity() * size_of::<E>()
    }
}

impl<E> Default for Aligned<E> {
    /// Nothing.
    fn default() -> Self {
        Self {
            storage: Vec::new(),
            start: 0,
            len: 0,
        }
    }
}

impl<E> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.storage[self.start..self.start + self.len]
    }
}

impl<E> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.storage[self.start..self.start + self.len]
    }
}
