//! Memory of whole pictures that nobody needs any more, for the next ones.
//!
//! A block of this size is a mapping of its own. To take it from the system and give it back for every frame costs a
//! page fault for each 4 kB: 700 for a picture of 1280x720.

use std::{
    mem,
    sync::{Mutex, OnceLock},
    thread,
};

use lipsync_core::sync::lock;

/// Smaller blocks are left to the heap, which keeps them.
const MIN_BYTES: usize = 1 << 20;
/// What is kept for each core: a background and the frame made of it, in 1920x1080.
const BYTES_PER_CORE: usize = 16 << 20;
/// More cores keep no more: 128 MiB.
const MOST_CORES: usize = 8;

static SPARE: Spare = Spare::new();

/// Blocks that nobody uses.
struct Spare {
    blocks: Mutex<Vec<Vec<u8>>>,
}

impl Spare {
    const fn new() -> Self {
        Self {
            blocks: Mutex::new(Vec::new()),
        }
    }

    /// A block with room for so many bytes, and not much more.
    fn take(&self, n_bytes: usize) -> Option<Vec<u8>> {
        if n_bytes < MIN_BYTES {
            return None;
        }
        // An eighth of it may stay empty, no more: who holds a picture counts its pixels.
        let fits = |block: &Vec<u8>| (n_bytes..=n_bytes + n_bytes / 8).contains(&block.capacity());
        let mut blocks = lock(&self.blocks);
        let place = blocks.iter().position(fits)?;
        Some(blocks.remove(place))
    }

    fn give(&self, mut block: Vec<u8>, most_bytes: usize) {
        if block.capacity() < MIN_BYTES {
            return;
        }
        block.clear();
        let mut blocks = lock(&self.blocks);
        blocks.push(block);
        let mut n_kept: usize = blocks.iter().map(Vec::capacity).sum();
        let mut gone = Vec::new();
        while n_kept > most_bytes {
            // The oldest one: nobody has asked for its size for a while.
            let oldest = blocks.remove(0);
            n_kept -= oldest.capacity();
            gone.push(oldest);
        }
        // Freed without the lock: it takes a while.
        drop(blocks);
        drop(gone);
    }

    fn release(&self) {
        let released = mem::take(&mut *lock(&self.blocks));
        // Without the lock: it takes a while.
        drop(released);
    }
}

/// An empty vector with room for so many bytes. What others left in its memory cannot be read.
pub(crate) fn take(n_bytes: usize) -> Vec<u8> {
    SPARE
        .take(n_bytes)
        .unwrap_or_else(|| Vec::with_capacity(n_bytes))
}

/// So many zeros.
pub(crate) fn zeros(n_bytes: usize) -> Vec<u8> {
    match SPARE.take(n_bytes) {
        Some(mut block) => {
            block.resize(n_bytes, 0);
            block
        }
        // New memory comes as zeros.
        None => vec![0; n_bytes],
    }
}

/// Keeps a block that is not needed any more, where there is room for it.
pub(crate) fn give(block: Vec<u8>) {
    static MOST: OnceLock<usize> = OnceLock::new();
    let most_bytes = *MOST.get_or_init(|| {
        let n_cores = thread::available_parallelism().map_or(1, usize::from);
        n_cores.min(MOST_CORES) * BYTES_PER_CORE
    });
    SPARE.give(block, most_bytes);
}

/// Gives the memory of past pictures back to the heap: 16 MiB for each core at most, 128 in all. For those who call it
/// now and then, or are short of memory. The next pictures take new memory.
pub fn release_spare_memory() {
    SPARE.release();
}

/// The bytes of a picture, in memory that is used again.
#[derive(Debug)]
pub struct PictureBytes(Vec<u8>);

impl From<Vec<u8>> for PictureBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for PictureBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PictureBytes {
    fn drop(&mut self) {
        give(mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests;
