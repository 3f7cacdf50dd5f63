//! The decoded background frames of one model: a bounded cache with one decode per missing frame.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use lipsync_compositor::{FaceCrop, Picture};
use lru::LruCache;

use crate::{RegistryError, lock};

/// A background frame, decoded, with the face cut out of it.
#[derive(Debug, Clone)]
pub struct BackgroundFrame {
    /// The whole frame.
    pub picture: Picture,
    /// The face, as the network wants it.
    pub crop: FaceCrop,
}

impl BackgroundFrame {
    fn bytes(&self) -> u64 {
        (self.picture.bytes() + self.crop.pixels().len()) as u64
    }
}

/// How a frame cache has fared since its model was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Frames asked for: `hits + misses`. Preloading asks for none.
    pub requests: u64,
    /// Requests that found their frame decoded.
    pub hits: u64,
    /// Requests that decoded their frame, waited for another's decode, or failed.
    pub misses: u64,
    /// Frames dropped to make room for others.
    pub evictions: u64,
    /// Frames read and decoded, by preloading too. At most `misses` plus the preloaded ones, fewer
    /// where several waited for one decode.
    pub loads: u64,
    /// Time that those loads took.
    pub load_time: Duration,
    /// Frames held now.
    pub resident_frames: usize,
    /// Frames held at most.
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
        let loads = u32::try_from(self.loads).unwrap_or(u32::MAX);
        self.load_time.checked_div(loads).unwrap_or_default()
    }
}

type Frame = Result<Arc<BackgroundFrame>, RegistryError>;

/// Keeps the most recently used frames.
///
/// The lock is held for look-ups only. Whoever misses first decodes while the others wait on the
/// frame's [`OnceLock`]; a failure reaches those who waited and is forgotten then, so that the next
/// request tries again.
pub(crate) struct BackgroundCache {
    state: Mutex<State>,
}

struct State {
    ready: LruCache<u32, Arc<BackgroundFrame>>,
    in_flight: HashMap<u32, Arc<OnceLock<Frame>>>,
    stats: CacheStats,
}

impl BackgroundCache {
    pub(crate) fn new(capacity_frames: NonZeroUsize) -> Self {
        Self {
            state: Mutex::new(State {
                ready: LruCache::new(capacity_frames),
                in_flight: HashMap::new(),
                stats: CacheStats {
                    capacity_frames: capacity_frames.get(),
                    ..CacheStats::default()
                },
            }),
        }
    }

    /// The frame, from the cache or from `decode`. Blocks while it is decoded.
    pub(crate) fn get(
        &self,
        index: u32,
        decode: impl FnOnce() -> Result<BackgroundFrame, RegistryError>,
    ) -> Frame {
        let flight = {
            let mut state = lock(&self.state);
            state.stats.requests += 1;
            if let Some(frame) = state.ready.get(&index) {
                let frame = Arc::clone(frame);
                state.stats.hits += 1;
                return Ok(frame);
            }
            state.stats.misses += 1;
            state.flight(index)
        };
        self.fly(&flight, index, decode)
    }

    /// As [`Self::get`], without counting a request.
    pub(crate) fn preload(
        &self,
        index: u32,
        decode: impl FnOnce() -> Result<BackgroundFrame, RegistryError>,
    ) -> Result<(), RegistryError> {
        let flight = {
            let mut state = lock(&self.state);
            if state.ready.get(&index).is_some() {
                return Ok(());
            }
            state.flight(index)
        };
        self.fly(&flight, index, decode).map(drop)
    }

    fn fly(
        &self,
        flight: &OnceLock<Frame>,
        index: u32,
        decode: impl FnOnce() -> Result<BackgroundFrame, RegistryError>,
    ) -> Frame {
        flight
            .get_or_init(|| {
                let started = Instant::now();
                let frame = decode().map(Arc::new);
                self.land(index, &frame, started.elapsed());
                frame
            })
            .clone()
    }

    /// Ends a flight before its waiters wake, so that whoever comes later finds the frame, or
    /// after a failure starts anew.
    fn land(&self, index: u32, frame: &Frame, load_time: Duration) {
        let dropped = {
            let mut state = lock(&self.state);
            state.in_flight.remove(&index);
            let Ok(frame) = frame else { return };
            state.stats.loads += 1;
            state.stats.load_time += load_time;
            state.stats.resident_bytes += frame.bytes();
            let dropped = state.ready.push(index, Arc::clone(frame));
            if let Some((_, old)) = &dropped {
                state.stats.evictions += 1;
                state.stats.resident_bytes -= old.bytes();
            }
            dropped
        };
        // Megabytes are given back here, outside the lock.
        drop(dropped);
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let state = lock(&self.state);
        CacheStats {
            resident_frames: state.ready.len(),
            ..state.stats
        }
    }
}

impl State {
    fn flight(&mut self, index: u32) -> Arc<OnceLock<Frame>> {
        Arc::clone(self.in_flight.entry(index).or_default())
    }
}

#[cfg(test)]
mod tests;
