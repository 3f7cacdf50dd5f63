//! How much memory the frame caches of all models may take together, and who gives some back.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::lock;

/// A cache that takes from the budget.
pub(crate) trait Holder: Send + Sync {
    fn holding(&self) -> Holding;

    /// Drops the least recently used frames until `n_bytes` are free or only `keep` frames are left.
    fn give_back(&self, n_bytes: u64, keep: usize);
}

/// What a cache holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    pub n_bytes: u64,
    /// Frames that it keeps while it is busy, as long as the budget allows.
    pub base_frames: usize,
    pub last_used: Instant,
}

/// Bytes, never more than the limit, but for what is given back after that was lowered.
///
/// There is no lock around the whole: caches take and release with atomic operations, and what is
/// reclaimed is taken from one cache after the other.
pub(crate) struct FrameBudget {
    /// As configured.
    limit: AtomicU64,
    /// The part of it that may be used, percent.
    usable_percent: AtomicU32,
    held: AtomicU64,
    idle_after: Mutex<Duration>,
    holders: Mutex<Vec<Weak<dyn Holder>>>,
}

impl FrameBudget {
    /// A cache counts as idle when no frame was asked for during `idle_after`.
    pub(crate) fn new(limit: u64, idle_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU64::new(limit),
            usable_percent: AtomicU32::new(100),
            held: AtomicU64::new(0),
            idle_after: Mutex::new(idle_after),
            holders: Mutex::default(),
        })
    }

    /// Sets other values for those that it was made with. [`Self::reclaim`] of nothing then gives back what is
    /// beyond the limit.
    pub(crate) fn limit(&self, limit: u64, idle_after: Duration) {
        self.limit.store(limit, Ordering::SeqCst);
        *lock(&self.idle_after) = idle_after;
    }

    /// Has a part of the limit hold instead of it, percent. [`Self::reclaim`] of nothing then gives back what is
    /// beyond that.
    pub(crate) fn use_only(&self, percent: u32) {
        self.usable_percent
            .store(percent.min(100), Ordering::SeqCst);
    }

    /// What holds now.
    fn usable(&self) -> u64 {
        let limit = self.limit.load(Ordering::SeqCst);
        let percent = u128::from(self.usable_percent.load(Ordering::SeqCst));
        u64::try_from(u128::from(limit) * percent / 100).unwrap_or(limit)
    }

    pub(crate) fn join(&self, holder: Weak<dyn Holder>) {
        let mut holders = lock(&self.holders);
        holders.retain(|holder| holder.strong_count() > 0);
        holders.push(holder);
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn has_room(&self, n_bytes: u64) -> bool {
        self.missing(n_bytes) == 0
    }

    pub(crate) fn try_take(&self, n_bytes: u64) -> bool {
        let limit = self.usable();
        let take = |held: u64| held.checked_add(n_bytes).filter(|held| *held <= limit);
        let taken = self
            .held
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        // Either this sees a limit that was lowered meanwhile, or who lowered it sees these bytes.
        let is_within = self.usable() >= limit || self.has_room(0);
        if taken.is_ok() && !is_within {
            self.release(n_bytes);
        }
        taken.is_ok() && is_within
    }

    pub(crate) fn release(&self, n_bytes: u64) {
        self.held.fetch_sub(n_bytes, Ordering::SeqCst);
    }

    /// Makes room for `n_bytes` as far as that is fair to a cache that holds `asker_bytes`: all that
    /// idle caches hold goes first, the longest idle one's at the head; then what busy ones hold
    /// beyond their base; then frames of those that hold more than the asker.
    ///
    /// Not to be called with a cache's lock held.
    pub(crate) fn reclaim(&self, n_bytes: u64, asker_bytes: u64) {
        let mut holders = self.holders();
        holders.sort_by_key(|(_, holding)| holding.last_used);
        let now = Instant::now();
        let ask = |holder: &dyn Holder, keep| {
            let missing = self.missing(n_bytes);
            if missing > 0 {
                holder.give_back(missing, keep);
            }
        };
        for (holder, _) in holders.iter().filter(|(_, h)| self.is_idle(h, now)) {
            ask(&**holder, 0);
        }
        for (holder, holding) in &holders {
            ask(&**holder, holding.base_frames);
        }
        holders.sort_by_key(|(_, holding)| std::cmp::Reverse(holding.n_bytes));
        for (holder, _) in holders.iter().filter(|(_, h)| h.n_bytes > asker_bytes) {
            ask(&**holder, 0);
        }
    }

    /// Lets idle caches give back what they hold beyond their base.
    pub(crate) fn shrink_idle(&self, now: Instant) {
        for (holder, holding) in self.holders() {
            if self.is_idle(&holding, now) {
                holder.give_back(u64::MAX, holding.base_frames);
            }
        }
    }

    fn is_idle(&self, holding: &Holding, now: Instant) -> bool {
        now.saturating_duration_since(holding.last_used) >= *lock(&self.idle_after)
    }

    fn missing(&self, n_bytes: u64) -> u64 {
        self.held()
            .saturating_add(n_bytes)
            .saturating_sub(self.usable())
    }

    fn holders(&self) -> Vec<(Arc<dyn Holder>, Holding)> {
        let holders: Vec<_> = lock(&self.holders)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let with_holding = |holder: Arc<dyn Holder>| {
            let holding = holder.holding();
            (holder, holding)
        };
        holders.into_iter().map(with_holding).collect()
    }
}
