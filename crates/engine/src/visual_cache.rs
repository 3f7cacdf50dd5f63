//! What generators computed from background frames alone, kept for the next time they are shown.
//!
//! One [`VisualCache`] serves a process: all workers and all generators share its budget, and what was used
//! least recently goes first. Each generator has a `Shelf` in it, which takes its entries along when it
//! goes. An entry's bytes are counted from the moment when somebody sets out to compute it, so the
//! budget holds at any time; who finds neither the entry nor room for it computes without keeping.
//! Nobody ever waits: while one worker computes an entry, another one that wants it does its own work.
//!
//! Least recently used fits the ping-pong walk over an avatar's frames: at either end, the frames that were
//! shown last are those shown next.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use lipsync_core::sync::lock;
use lru::LruCache;

/// Memory for what depends on background frames only, bounded in bytes.
#[derive(Debug)]
pub struct VisualCache {
    state: Mutex<State>,
    /// Read and written under the lock of the state.
    capacity_bytes: AtomicU64,
    /// The capacity that it was made with.
    made_for_bytes: u64,
}

/// How a cache, or one generator's part of it, has fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VisualCacheStats {
    /// Frames that were generated from an entry.
    pub hits: u64,
    /// Frames that were generated without one.
    pub misses: u64,
    /// Entries computed ahead of their first use.
    pub prepared: u64,
    /// Entries dropped to make room for others.
    pub evictions: u64,
    /// Entries held now.
    pub resident_frames: u64,
    /// Bytes that they take, those being computed included.
    pub resident_bytes: u64,
    /// Bytes held at most, by all generators together.
    pub capacity_bytes: u64,
}

#[derive(Debug)]
struct State {
    /// By generator and frame. Unbounded in number; `total.resident_bytes` is what is bounded.
    entries: LruCache<Key, Entry>,
    by_shelf: HashMap<u64, VisualCacheStats>,
    total: VisualCacheStats,
    next_shelf: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    shelf: u64,
    frame: u32,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    /// `None` while somebody computes it.
    kept: Option<Arc<dyn Any + Send + Sync>>,
}

/// One generator's part of a cache: entries of one type and one size, by background frame.
#[derive(Debug)]
pub(crate) struct Shelf {
    cache: Arc<VisualCache>,
    id: u64,
    entry_bytes: u64,
}

/// What a shelf says to a frame.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// It is there.
    Kept(Arc<T>),
    /// It is not, and there is room: compute it and keep it.
    Absent(Claim),
    /// It is not, and cannot be kept.
    NoRoom,
}

/// The right to fill one entry. Dropped unfilled, the entry is given up.
#[derive(Debug)]
pub(crate) struct Claim {
    cache: Arc<VisualCache>,
    key: Key,
    filled: bool,
}

impl VisualCache {
    /// A cache that never holds more than `capacity_bytes`; with 0 it holds nothing.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            state: Mutex::new(State {
                entries: LruCache::unbounded(),
                by_shelf: HashMap::new(),
                total: VisualCacheStats::default(),
                next_shelf: 0,
            }),
            capacity_bytes: AtomicU64::new(capacity_bytes),
            made_for_bytes: capacity_bytes,
        }
    }

    /// Has it hold at most this part of the bytes that it was made for, percent (up to 100), from now on. What is
    /// beyond that goes, but for what is being computed or read.
    pub fn limit_to(&self, percent: u32) {
        let part = u128::from(self.made_for_bytes) * u128::from(percent.min(100)) / 100;
        let capacity_bytes = u64::try_from(part).unwrap_or(self.made_for_bytes);
        let mut dropped = vec![];
        let mut state = self.lock();
        self.capacity_bytes.store(capacity_bytes, Ordering::Relaxed);
        let _fits = state.make_room(0, capacity_bytes, &mut dropped);
        drop(state);
        // Megabytes are given back here, outside the lock.
        drop(dropped);
    }

    /// The counters of all generators, those that are gone included.
    #[must_use]
    pub fn stats(&self) -> VisualCacheStats {
        VisualCacheStats {
            capacity_bytes: self.capacity_bytes(),
            ..self.lock().total
        }
    }

    fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        lock(&self.state)
    }
}

impl State {
    /// Counts something for a shelf and for all.
    fn count(&mut self, shelf: u64, change: impl Fn(&mut VisualCacheStats)) {
        change(&mut self.total);
        change(self.by_shelf.entry(shelf).or_default());
    }

    /// Drops what was used least recently until `bytes` fit; `false` where they cannot. Entries that
    /// are being computed or read stay, since dropping them would free nothing.
    fn make_room(&mut self, bytes: u64, capacity_bytes: u64, dropped: &mut Vec<Entry>) -> bool {
        if bytes > capacity_bytes {
            return false;
        }
        let is_idle = |entry: &Entry| {
            let kept = entry.kept.as_ref();
            kept.is_some_and(|kept| Arc::strong_count(kept) == 1)
        };
        while self.total.resident_bytes + bytes > capacity_bytes {
            let mut from_oldest = self.entries.iter().rev();
            let Some(key) = from_oldest.find_map(|(key, e)| is_idle(e).then_some(*key)) else {
                return false;
            };
            dropped.extend(self.remove(key));
            self.count(key.shelf, |stats| stats.evictions += 1);
        }
        true
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.pop(&key)?;
        let (bytes, is_kept) = (entry.bytes, u64::from(entry.kept.is_some()));
        self.count(key.shelf, |stats| {
            stats.resident_bytes -= bytes;
            stats.resident_frames -= is_kept;
        });
        Some(entry)
    }
}

impl Shelf {
    /// A place for one generator, whose entries take `entry_bytes` each.
    pub fn new(cache: Arc<VisualCache>, entry_bytes: u64) -> Self {
        let mut state = cache.lock();
        let id = state.next_shelf;
        state.next_shelf += 1;
        state.by_shelf.insert(id, VisualCacheStats::default());
        drop(state);
        Self {
            cache,
            id,
            entry_bytes,
        }
    }

    /// Looks a frame up that is being generated.
    pub fn look_up<T: Any + Send + Sync>(&self, frame: u32) -> Found<T> {
        let key = self.key(frame);
        let mut state = self.cache.lock();
        let kept = state.entries.get(&key).and_then(|entry| entry.kept.clone());
        if let Some(kept) = kept.and_then(|kept| kept.downcast().ok()) {
            state.count(self.id, |stats| stats.hits += 1);
            return Found::Kept(kept);
        }
        state.count(self.id, |stats| stats.misses += 1);
        drop(state);
        self.claim(frame).map_or(Found::NoRoom, Found::Absent)
    }

    /// The right to compute a frame, unless it is there, somebody is at it, or there is no room.
    pub fn claim(&self, frame: u32) -> Option<Claim> {
        let key = self.key(frame);
        let mut dropped = vec![];
        let mut state = self.cache.lock();
        let is_free = !state.entries.contains(&key)
            && state.make_room(self.entry_bytes, self.cache.capacity_bytes(), &mut dropped);
        if is_free {
            let bytes = self.entry_bytes;
            state.entries.push(key, Entry { bytes, kept: None });
            state.count(self.id, |stats| stats.resident_bytes += bytes);
        }
        drop(state);
        // Megabytes are given back here, outside the lock, and before others take their place.
        drop(dropped);
        is_free.then(|| Claim {
            cache: Arc::clone(&self.cache),
            key,
            filled: false,
        })
    }

    /// The counters of this generator.
    pub fn stats(&self) -> VisualCacheStats {
        let state = self.cache.lock();
        VisualCacheStats {
            capacity_bytes: self.cache.capacity_bytes(),
            ..state.by_shelf.get(&self.id).copied().unwrap_or_default()
        }
    }

    /// Counts an entry that was computed ahead.
    pub fn count_prepared(&self) {
        let mut state = self.cache.lock();
        state.count(self.id, |stats| stats.prepared += 1);
    }

    fn key(&self, frame: u32) -> Key {
        Key {
            shelf: self.id,
            frame,
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let mut state = self.cache.lock();
        let keys: Vec<Key> = state
            .entries
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| key.shelf == self.id)
            .collect();
        let dropped: Vec<Entry> = keys.into_iter().filter_map(|k| state.remove(k)).collect();
        state.by_shelf.remove(&self.id);
        drop(state);
        drop(dropped);
    }
}

impl Claim {
    /// Keeps what was computed; it must take no more than the shelf's bytes an entry.
    pub fn fill<T: Any + Send + Sync>(mut self, kept: Arc<T>) {
        let mut state = self.cache.lock();
        if let Some(entry) = state.entries.peek_mut(&self.key) {
            entry.kept = Some(kept);
            state.count(self.key.shelf, |stats| stats.resident_frames += 1);
        }
        drop(state);
        self.filled = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.filled {
            let mut state = self.cache.lock();
            state.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests;
