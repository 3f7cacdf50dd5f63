//! Device memory of what is kept of background frames.

use std::sync::{Arc, Mutex};

use lipsync_core::sync::lock;

use super::driver::{Allocation, Driver};
use crate::EngineError;

/// Entries that are held back for the next frame instead of being given back to the device, which
/// waits for all that runs there. A full cache drops one entry for each that it takes.
const MAX_IDLE: usize = 4;

/// Where a generator's entries come from; all have one size.
#[derive(Debug)]
pub(super) struct EntryPool {
    driver: Arc<dyn Driver>,
    entry_bytes: usize,
    idle: Mutex<Vec<Allocation>>,
}

/// A frame's entry. Its memory goes back to the pool when the last one who reads it is done.
#[derive(Debug)]
pub(super) struct Entry {
    pool: Arc<EntryPool>,
    memory: Option<Allocation>,
}

impl EntryPool {
    pub fn new(driver: &Arc<dyn Driver>, entry_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            driver: Arc::clone(driver),
            entry_bytes,
            idle: Mutex::default(),
        })
    }

    /// Memory for one entry.
    pub fn take(self: &Arc<Self>) -> Result<Entry, EngineError> {
        let idle = lock(&self.idle).pop();
        let memory = match idle {
            Some(memory) => memory,
            None => Allocation::new(&self.driver, self.entry_bytes)?,
        };
        Ok(Entry {
            pool: Arc::clone(self),
            memory: Some(memory),
        })
    }
}

impl Entry {
    pub fn address(&self) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.address)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut idle = lock(&self.pool.idle);
        let returned = self.memory.take();
        let freed = if idle.len() < MAX_IDLE {
            idle.extend(returned);
            None
        } else {
            returned
        };
        drop(idle);
        // Giving memory back may wait for the device: not under the lock.
        drop(freed);
    }
}
