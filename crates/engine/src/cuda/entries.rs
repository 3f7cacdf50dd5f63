//! Device memory of what is kept of background frames.
//!
//! Giving memory back to a device waits for everything that runs there. So entries of one size share slabs: a full
//! cache moves from one avatar to another without asking the device for anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use lipsync_core::sync::lock;

use super::driver::{Allocation, Driver, held_bytes};
use crate::EngineError;

/// Slots of the first slab of a pool. Each further slab has twice as many as the one before: few avatars take little
/// memory, many avatars few slabs.
const FIRST_SLOTS: usize = 4;
/// How often they double: a slab has a bit for each of 64 slots.
const MAX_DOUBLINGS: usize = 4;
/// Bytes of a slab, at most, as long as two entries fit.
const MAX_SLAB_BYTES: usize = 32 << 20;

/// The pools of a device by the size of their entries. Generators of one kind share one.
#[derive(Debug, Default)]
pub(super) struct EntryPools {
    by_bytes: Mutex<BTreeMap<usize, Weak<EntryPool>>>,
}

/// Where entries of one size come from.
///
/// It keeps one empty slab at most, for the next entries. The rest of its empty memory goes back, and all of it with
/// the last generator.
#[derive(Debug)]
pub(super) struct EntryPool {
    driver: Arc<dyn Driver>,
    entry_bytes: usize,
    /// By address.
    slabs: Mutex<BTreeMap<u64, Slab>>,
}

#[derive(Debug)]
struct Slab {
    memory: Allocation,
    n_slots: usize,
    /// A bit for each slot that an entry has.
    taken: u64,
}

/// A frame's entry. Its slot goes back to the pool when the last one who reads it is done.
#[derive(Debug)]
pub(super) struct Entry {
    pool: Arc<EntryPool>,
    slab: u64,
    slot: usize,
}

impl EntryPools {
    /// The pool for entries of so many bytes.
    pub fn of(&self, driver: &Arc<dyn Driver>, entry_bytes: usize) -> Arc<EntryPool> {
        let mut pools = lock(&self.by_bytes);
        pools.retain(|_, pool| pool.strong_count() > 0);
        if let Some(pool) = pools.get(&entry_bytes).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(EntryPool {
            driver: Arc::clone(driver),
            entry_bytes,
            slabs: Mutex::default(),
        });
        pools.insert(entry_bytes, Arc::downgrade(&pool));
        pool
    }
}

/// Slots of the slab that comes after `n_slabs` others.
fn slots_of_next(n_slabs: usize, entry_bytes: usize) -> usize {
    let that_fit = MAX_SLAB_BYTES / entry_bytes.max(1);
    (FIRST_SLOTS << n_slabs.min(MAX_DOUBLINGS)).min(that_fit.max(1))
}

/// Bytes that a pool takes on the device for `n` entries that come one after the other.
pub(super) fn slab_bytes(n: u64, entry_bytes: usize) -> u64 {
    let (mut bytes, mut left, mut n_slabs) = (0_u64, n, 0);
    while left > 0 {
        let n_slots = slots_of_next(n_slabs, entry_bytes);
        let slab = held_bytes((n_slots * entry_bytes) as u64);
        let n_slots = n_slots as u64;
        // From here on all slabs are alike.
        let n_alike = if slots_of_next(n_slabs + 1, entry_bytes) as u64 == n_slots {
            left.div_ceil(n_slots)
        } else {
            1
        };
        bytes = bytes.saturating_add(slab.saturating_mul(n_alike));
        left = left.saturating_sub(n_slots.saturating_mul(n_alike));
        n_slabs += 1;
    }
    bytes
}

impl EntryPool {
    /// A slot for one entry. The fullest slab goes first, so that others can become empty.
    pub fn take(self: &Arc<Self>) -> Result<Entry, EngineError> {
        let mut slabs = lock(&self.slabs);
        let with_room = slabs.iter_mut().filter(|(_, slab)| slab.has_room());
        let fullest = with_room.max_by_key(|(_, slab)| slab.taken.count_ones());
        let (address, slot) = match fullest {
            Some((&address, slab)) => (address, slab.take()),
            None => {
                let mut slab = self.allocate(slots_of_next(slabs.len(), self.entry_bytes))?;
                let (address, slot) = (slab.memory.address, slab.take());
                slabs.insert(address, slab);
                (address, slot)
            }
        };
        Ok(Entry {
            pool: Arc::clone(self),
            slab: address,
            slot,
        })
    }

    /// A new slab; a device without room for all its slots may have it for one.
    fn allocate(&self, n_slots: usize) -> Result<Slab, EngineError> {
        let of = |n_slots: usize| {
            let memory = Allocation::new(&self.driver, n_slots * self.entry_bytes)?;
            Ok(Slab {
                memory,
                n_slots,
                taken: 0,
            })
        };
        match of(n_slots) {
            Err(EngineError::OutOfMemory { .. }) if n_slots > 1 => of(1),
            other => other,
        }
    }

    /// Gives empty slabs back, where something else has no room.
    pub fn release_empty(&self) {
        let mut slabs = lock(&self.slabs);
        let is_empty = |(_, slab): &(&u64, &Slab)| slab.taken == 0;
        let empty: Vec<u64> = slabs.iter().filter(is_empty).map(|(&at, _)| at).collect();
        let empty: Vec<_> = empty.iter().map(|at| slabs.remove(at)).collect();
        drop(slabs);
        // It waits for the device: not under the lock.
        drop(empty);
    }

    fn put_back(&self, address: u64, slot: usize) {
        let mut slabs = lock(&self.slabs);
        let has_spare = slabs.iter().any(|(_, slab)| slab.taken == 0);
        let freed = match slabs.get_mut(&address) {
            Some(slab) => {
                slab.taken &= !(1 << slot);
                (slab.taken == 0 && has_spare).then(|| slabs.remove(&address))
            }
            None => None,
        };
        drop(slabs);
        drop(freed);
    }
}

impl Slab {
    fn has_room(&self) -> bool {
        (self.taken.count_ones() as usize) < self.n_slots
    }

    fn take(&mut self) -> usize {
        let slot = self.taken.trailing_ones() as usize;
        self.taken |= 1 << slot;
        slot
    }
}

impl Entry {
    pub fn address(&self) -> u64 {
        self.slab + (self.slot * self.pool.entry_bytes) as u64
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.pool.put_back(self.slab, self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::FakeDevice;

    const BYTES: usize = 3 << 20;

    fn pool(device: &FakeDevice) -> Arc<EntryPool> {
        EntryPools::default().of(device.open().driver(), BYTES)
    }

    #[test]
    fn slabs_hold_what_is_planned_for_them() {
        for n in [1, 4, 5, 14, 40, 200] {
            let device = FakeDevice::new(0, 4 << 30);
            let pool = pool(&device);
            let entries: Vec<_> = (0..n).map(|_| pool.take().unwrap()).collect();
            assert_eq!(device.used_bytes(), slab_bytes(n, BYTES), "{n} entries");
            let mut addresses: Vec<_> = entries.iter().map(Entry::address).collect();
            addresses.sort_unstable();
            let apart = addresses.windows(2).all(|w| w[1] - w[0] >= BYTES as u64);
            assert!(apart, "{n} entries");
            drop((entries, pool));
            assert_eq!(device.used_bytes(), 0);
        }
    }

    #[test]
    fn slabs_grow_to_the_largest_and_stay_so() {
        let of = |entry_bytes, n_slabs| (0..n_slabs).map(move |n| slots_of_next(n, entry_bytes));
        assert_eq!(Vec::from_iter(of(1, 6)), [4, 8, 16, 32, 64, 64]);
        assert!(of(1, 200).skip(4).all(|n| n == 64));
        assert!(of(BYTES, 200).skip(2).all(|n| n == 10));
        assert!(of(2 * MAX_SLAB_BYTES, 200).all(|n| n == 1));
    }

    #[test]
    fn a_full_pool_does_not_ask_the_device_again() {
        let device = FakeDevice::new(0, 4 << 30);
        let pool = pool(&device);
        let mut entries: Vec<_> = (0..40).map(|_| pool.take().unwrap()).collect();
        let used = device.used_bytes();
        // The oldest goes, another one comes, many times over.
        for round in 0..400 {
            drop(entries.remove(round * 7 % 40));
            entries.push(pool.take().unwrap());
        }
        assert_eq!(device.used_bytes(), used);
    }

    #[test]
    fn empty_slabs_go_back_but_for_one() {
        let device = FakeDevice::new(0, 4 << 30);
        let pool = pool(&device);
        let entries: Vec<_> = (0..40).map(|_| pool.take().unwrap()).collect();
        let full = device.used_bytes();
        drop(entries);
        let spare = device.used_bytes();
        assert!(spare > 0 && spare * 2 < full, "{spare} of {full}");
        pool.release_empty();
        assert_eq!(device.used_bytes(), 0);
    }

    #[test]
    fn a_device_without_room_for_a_slab_has_it_for_an_entry() {
        let device = FakeDevice::new(0, held_bytes(BYTES as u64));
        let pool = pool(&device);
        let entry = pool.take().unwrap();
        assert!(matches!(pool.take(), Err(EngineError::OutOfMemory { .. })));
        drop(entry);
        assert!(pool.take().is_ok());
    }

    #[test]
    fn generators_of_one_size_share_a_pool() {
        let device = FakeDevice::new(0, 4 << 30);
        let cuda = device.open();
        let pools = EntryPools::default();
        let [a, b, other] = [BYTES, BYTES, 2 * BYTES].map(|n| pools.of(cuda.driver(), n));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &other));
    }
}
