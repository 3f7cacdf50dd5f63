//! Generated faces, whose memory is used again.
//!
//! A face of the full-size network is 300 kB. The C library gives blocks of that size back to the system soon after they
//! are freed, and the next batch meets a page fault for every 4 KiB of a face: a hundred microseconds a frame, in the
//! thread that a GPU waits for. So faces of a GPU return to their pool when the last reader is done. On the CPU a frame
//! takes tens of milliseconds, and memory that is free is worth more.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, Weak},
};

use lipsync_core::sync::lock;

/// Faces whose memory is kept, at most: those of four large batches, 79 MB of the full-size network.
pub(crate) const MAX_SPARE_FACES: usize = 256;

/// One generated region: `region_px x region_px x 3`, u8, BGR, row-major, interleaved. Empty for a frame that could
/// not be made.
#[derive(Default)]
pub struct Face {
    bytes: Vec<u8>,
    /// Where its memory goes.
    home: Weak<SpareFaces>,
}

/// Memory of faces that nobody reads any more, bounded in number.
#[derive(Debug)]
pub(crate) struct SpareFaces {
    spare: Mutex<Vec<Vec<u8>>>,
    /// More are freed.
    max: usize,
}

impl SpareFaces {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            spare: Mutex::default(),
            max,
        })
    }

    /// Up to `n` of them, those that were used last.
    pub(crate) fn take(&self, n: usize) -> Vec<Vec<u8>> {
        let mut spare = lock(&self.spare);
        let first = spare.len().saturating_sub(n);
        spare.split_off(first)
    }

    /// A face that comes back here.
    pub(crate) fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> Face {
        Face {
            bytes,
            home: Arc::downgrade(self),
        }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < self.max {
            spare.push(bytes);
            return;
        }
        drop(spare);
        drop(bytes);
    }
}

impl From<Vec<u8>> for Face {
    /// A face whose memory is freed with it.
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            home: Weak::new(),
        }
    }
}

impl Clone for Face {
    fn clone(&self) -> Self {
        self.bytes.clone().into()
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Deref for Face {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Face {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Face({} bytes)", self.bytes.len())
    }
}

impl PartialEq<Vec<u8>> for Face {
    fn eq(&self, bytes: &Vec<u8>) -> bool {
        self.bytes == *bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_up_to_a_bound() {
        let spare = SpareFaces::new(2);
        let faces: Vec<_> = (0..3).map(|n| spare.lend(vec![n; 100])).collect();
        let last = faces[1].as_ptr();
        let copy = faces[0].clone();
        drop(faces);
        // A copy is its own, and the third found no place.
        drop(copy);
        let taken = spare.take(9);
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[1].as_ptr(), last);
        assert!(spare.take(1).is_empty());
    }

    #[test]
    fn a_face_outlives_its_pool() {
        let spare = SpareFaces::new(2);
        let face = spare.lend(vec![7; 3]);
        drop(spare);
        assert_eq!(face, vec![7; 3]);
    }
}
