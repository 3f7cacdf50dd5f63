//! Frames of one model in memory: a cache weighed in bytes, with one load per missing frame.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use lru::LruCache;

use lipsync_core::saturate::u32_of;

use crate::{
    RegistryError,
    frame_budget::{FrameBudget, Holder, Holding},
    lock,
};

/// Something whose memory is counted.
pub(crate) trait Weighed: Send + Sync + 'static {
    fn n_bytes(&self) -> u64;
}

/// How a frame cache has fared since its model was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Frames asked for: `hits + misses`. Preloading and reading ahead ask for none.
    pub requests: u64,
    /// Requests that found their frame.
    pub hits: u64,
    /// Requests that loaded their frame, waited for another's load, or failed.
    pub misses: u64,
    /// Frames dropped: to make room for others, or because the model was idle.
    pub evictions: u64,
    /// Frames loaded, by preloading and reading ahead too; fewer than were missed where several
    /// waited for one load.
    pub loads: u64,
    /// Time that those loads took.
    pub load_time: Duration,
    /// Frames loaded before they were asked for, along the order in which they are shown.
    pub read_ahead: u64,
    /// How many of those were then asked for while they were still there.
    pub read_ahead_hits: u64,
    /// Frames held now.
    pub resident_frames: usize,
    /// Frames that the cache holds before it grows with what room the budget has.
    pub capacity_frames: usize,
    /// Bytes of the frames held now.
    pub resident_bytes: u64,
}

impl CacheStats {
    /// `hits / requests`, 0..=1; 0 before the first request.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio for people; exact up to 2^53 requests"
    )]
    pub fn hit_rate(&self) -> f64 {
        if self.requests == 0 {
            return 0.0;
        }
        self.hits as f64 / self.requests as f64
    }

    /// Mean time of a load; zero before the first.
    #[must_use]
    pub fn mean_load_time(&self) -> Duration {
        let loads = u32_of(self.loads);
        self.load_time.checked_div(loads).unwrap_or_default()
    }
}

type Loaded<T> = Result<Arc<T>, RegistryError>;

/// A load under way.
struct Flight<T> {
    index: u32,
    /// What its waiters wait on.
    loaded: OnceLock<Loaded<T>>,
}

/// How many frames a cache holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Up to here it takes room from others where there is none left.
    pub base: usize,
    /// Up to here it grows while the budget has room.
    pub most: usize,
}

/// Why a frame is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Request,
    Preload,
    ReadAhead,
}

/// Keeps the most recently used frames.
///
/// The lock is held for look-ups only. Whoever misses first loads while the others wait on the
/// frame's [`OnceLock`]; a failure reaches those who waited and is forgotten then, so that the next
/// request tries again.
pub(crate) struct FrameCache<T: Weighed> {
    budget: Arc<FrameBudget>,
    state: Mutex<State<T>>,
}

struct State<T> {
    bounds: Bounds,
    ready: LruCache<u32, Entry<T>>,
    in_flight: HashMap<u32, Arc<Flight<T>>>,
    last_used: Instant,
    stats: CacheStats,
}

struct Entry<T> {
    frame: Arc<T>,
    n_bytes: u64,
    /// Loaded ahead, and not asked for yet.
    is_ahead: bool,
}

impl<T: Weighed> FrameCache<T> {
    pub(crate) fn new(bounds: Bounds, budget: &Arc<FrameBudget>) -> Arc<Self> {
        let cache = Arc::new(Self {
            budget: Arc::clone(budget),
            state: Mutex::new(State {
                bounds,
                ready: LruCache::unbounded(),
                in_flight: HashMap::new(),
                last_used: Instant::now(),
                stats: CacheStats {
                    capacity_frames: bounds.base,
                    ..CacheStats::default()
                },
            }),
        });
        let holder: Arc<dyn Holder> = Arc::<Self>::clone(&cache);
        budget.join(Arc::downgrade(&holder));
        cache
    }

    /// The frame, from the cache or from `load`. Blocks while it is loaded.
    pub(crate) fn get(
        &self,
        index: u32,
        load: impl FnOnce() -> Result<T, RegistryError>,
    ) -> Loaded<T> {
        let flight = {
            let mut state = lock(&self.state);
            state.last_used = Instant::now();
            state.stats.requests += 1;
            if let Some(entry) = state.ready.get_mut(&index) {
                let was_ahead = std::mem::take(&mut entry.is_ahead);
                let frame = Arc::clone(&entry.frame);
                state.stats.hits += 1;
                state.stats.read_ahead_hits += u64::from(was_ahead);
                return Ok(frame);
            }
            state.stats.misses += 1;
            state.flight(index)
        };
        self.fly(&flight, Purpose::Request, load)
    }

    /// As [`Self::get`], without counting a request.
    pub(crate) fn preload(
        &self,
        index: u32,
        load: impl FnOnce() -> Result<T, RegistryError>,
    ) -> Result<(), RegistryError> {
        self.load_missing(index, Purpose::Preload, load)
    }

    /// As [`Self::preload`], and counted as read ahead.
    pub(crate) fn read_ahead(
        &self,
        index: u32,
        load: impl FnOnce() -> Result<T, RegistryError>,
    ) -> Result<(), RegistryError> {
        self.load_missing(index, Purpose::ReadAhead, load)
    }

    fn load_missing(
        &self,
        index: u32,
        purpose: Purpose,
        load: impl FnOnce() -> Result<T, RegistryError>,
    ) -> Result<(), RegistryError> {
        let flight = {
            let mut state = lock(&self.state);
            if state.ready.get(&index).is_some() {
                return Ok(());
            }
            state.flight(index)
        };
        self.fly(&flight, purpose, load).map(drop)
    }

    /// The frame, if it is there. Counts as no use.
    pub(crate) fn peek(&self, index: u32) -> Option<Arc<T>> {
        let state = lock(&self.state);
        state
            .ready
            .peek(&index)
            .map(|entry| Arc::clone(&entry.frame))
    }

    /// Whether a frame is neither there nor being loaded.
    pub(crate) fn lacks(&self, index: u32) -> bool {
        let state = lock(&self.state);
        !state.ready.contains(&index) && !state.in_flight.contains_key(&index)
    }

    /// Sets other bounds, without dropping anything yet.
    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        let mut state = lock(&self.state);
        state.bounds = bounds;
        state.stats.capacity_frames = bounds.base;
    }

    /// Drops what is beyond the bounds.
    pub(crate) fn trim(&self) {
        let most = lock(&self.state).bounds.most;
        self.give_back(u64::MAX, most);
    }

    /// Drops all frames. Those that are being loaded reach who asked for them and are not kept either.
    pub(crate) fn clear(&self) {
        lock(&self.state).in_flight.clear();
        self.give_back(u64::MAX, 0);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let state = lock(&self.state);
        CacheStats {
            resident_frames: state.ready.len(),
            ..state.stats
        }
    }

    fn fly(
        &self,
        flight: &Arc<Flight<T>>,
        purpose: Purpose,
        load: impl FnOnce() -> Result<T, RegistryError>,
    ) -> Loaded<T> {
        flight
            .loaded
            .get_or_init(|| {
                let started = Instant::now();
                let frame = load().map(Arc::new);
                self.land(flight, &frame, purpose, started.elapsed());
                frame
            })
            .clone()
    }

    /// Ends a flight before its waiters wake, so that whoever comes later finds the frame, or
    /// after a failure starts anew.
    fn land(
        &self,
        flight: &Arc<Flight<T>>,
        frame: &Loaded<T>,
        purpose: Purpose,
        load_time: Duration,
    ) {
        let Ok(frame) = frame else {
            lock(&self.state).end(flight);
            return;
        };
        let n_bytes = frame.n_bytes();
        // Frames that go are freed here, outside the lock.
        let mut gone = Vec::new();
        for is_last_attempt in [false, true] {
            let mut state = lock(&self.state);
            let is_wanted = state.has(flight);
            let has_room =
                is_wanted && self.make_room(&mut state, n_bytes, is_last_attempt, &mut gone);
            let is_over = has_room || is_last_attempt || !is_wanted;
            if is_over {
                state.end(flight);
                state.stats.loads += 1;
                state.stats.load_time += load_time;
                state.stats.read_ahead += u64::from(purpose == Purpose::ReadAhead);
            }
            if has_room {
                let entry = Entry {
                    frame: Arc::clone(frame),
                    n_bytes,
                    is_ahead: purpose == Purpose::ReadAhead,
                };
                state.stats.resident_bytes += n_bytes;
                state.ready.put(flight.index, entry);
            }
            drop(state);
            if is_over {
                return;
            }
            self.budget.reclaim(n_bytes, self.holding().n_bytes);
        }
    }

    /// Takes the bytes of one more frame from the budget. In the end the cache's own frames go for
    /// it; a frame that not even then has room is served and not kept.
    fn make_room(
        &self,
        state: &mut State<T>,
        n_bytes: u64,
        is_last_attempt: bool,
        gone: &mut Vec<Arc<T>>,
    ) -> bool {
        let n_frames = state.ready.len();
        let Bounds { base, most } = state.bounds;
        let cannot_grow = n_frames >= base && !self.budget.has_room(n_bytes);
        if n_frames >= most || cannot_grow {
            gone.extend(state.evict(&self.budget));
        }
        loop {
            if self.budget.try_take(n_bytes) {
                return true;
            }
            let own = is_last_attempt.then(|| state.evict(&self.budget));
            let Some(frame) = own.flatten() else {
                return false;
            };
            gone.push(frame);
        }
    }
}

impl<T: Weighed> Holder for FrameCache<T> {
    fn holding(&self) -> Holding {
        let state = lock(&self.state);
        Holding {
            n_bytes: state.stats.resident_bytes,
            base_frames: state.bounds.base,
            last_used: state.last_used,
        }
    }

    fn give_back(&self, n_bytes: u64, keep: usize) {
        let mut gone = Vec::new();
        let mut state = lock(&self.state);
        let wanted = state.stats.resident_bytes.saturating_sub(n_bytes);
        while state.ready.len() > keep && state.stats.resident_bytes > wanted {
            gone.extend(state.evict(&self.budget));
        }
        drop(state);
        drop(gone);
    }
}

impl<T: Weighed> Drop for FrameCache<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T> State<T> {
    fn flight(&mut self, index: u32) -> Arc<Flight<T>> {
        let begin = || {
            Arc::new(Flight {
                index,
                loaded: OnceLock::new(),
            })
        };
        Arc::clone(self.in_flight.entry(index).or_insert_with(begin))
    }

    /// Whether the load is still the one for its frame: the cache may have been cleared since it began.
    fn has(&self, flight: &Arc<Flight<T>>) -> bool {
        let current = self.in_flight.get(&flight.index);
        current.is_some_and(|current| Arc::ptr_eq(current, flight))
    }

    fn end(&mut self, flight: &Arc<Flight<T>>) {
        if self.has(flight) {
            self.in_flight.remove(&flight.index);
        }
    }

    /// Takes out the least recently used frame, to be dropped outside the lock.
    fn evict(&mut self, budget: &FrameBudget) -> Option<Arc<T>> {
        let (_, entry) = self.ready.pop_lru()?;
        self.stats.evictions += 1;
        self.stats.resident_bytes -= entry.n_bytes;
        budget.release(entry.n_bytes);
        Some(entry.frame)
    }
}

#[cfg(test)]
mod tests;
