//! A bounded number of places, or of bytes, that peers share.
//!
//! Three rules hold for every gate. What is taken is never more than the limit. One peer never takes all: what
//! it holds stays in proportion to what is left for others. And where a gate has patience, a holder that only
//! waits (for its client, mostly) gives way to a newcomer when there is no room left; its owner learns that
//! from `Ticket::withdrawn` and ends what it was doing.
//!
//! [`crate::admission`] decides what a place stands for, and words the refusals.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use lipsync_core::sync::lock;
use tokio::{sync::Notify, time::Instant};

use crate::peer::Peer;

/// What holds for a gate.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Text of the refusal.
    pub what: &'static str,
    /// Places or bytes, to begin with: see [`Gate::set_limit`].
    pub limit: usize,
    /// Share of its own holdings and the free places that one peer may hold, percent; 100 = all.
    pub share_percent: u32,
    /// How long a holder may have waited before it gives way; `None`: it never does.
    pub patience: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    rules: Rules,
    limit: AtomicUsize,
    state: Mutex<State>,
    /// Something was given back.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    n_taken: usize,
    by_peer: HashMap<Peer, usize>,
    holders: HashMap<u64, Holder>,
    next_id: u64,
}

#[derive(Debug)]
struct Holder {
    peer: Peer,
    n: usize,
    waiting_since: Option<Instant>,
    withdrawal: Arc<Withdrawal>,
}

#[derive(Debug, Default)]
struct Withdrawal {
    is_withdrawn: AtomicBool,
    notify: Notify,
}

/// The right to be served, or to take memory; dropping it makes room for another.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    id: u64,
    withdrawal: Arc<Withdrawal>,
}

/// Why something does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// Of room for anybody.
    Room,
    /// Of room for this peer.
    Share,
}

impl Gate {
    /// A gate with all its places free.
    #[must_use]
    pub fn new(rules: Rules) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(rules.limit),
            rules,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// What holds for it.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Places or bytes that there are.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lets there be another number of places or bytes from now on. Where more is taken already, nothing is taken
    /// back: newcomers wait until enough is given back.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes this many for a peer, if there is room or can be made.
    pub fn take(self: &Arc<Self>, peer: Peer, n: usize) -> Option<Ticket> {
        let mut state = self.lock();
        if !self.make_room(&mut state, peer, None, n) {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        let withdrawal = Arc::<Withdrawal>::default();
        state.add(peer, n);
        let holder = Holder {
            peer,
            n,
            waiting_since: None,
            withdrawal: Arc::clone(&withdrawal),
        };
        state.holders.insert(id, holder);
        Some(Ticket {
            gate: Arc::clone(self),
            id,
            withdrawal,
        })
    }

    /// Whether one more place would be given to this peer now.
    pub(crate) fn has_room(&self, peer: Peer) -> bool {
        let state = self.lock();
        self.lack(&state, peer, 0, 1).is_none()
            || self.rules.patience.is_some() && !self.candidates(&state, peer, None).is_empty()
    }

    /// Places or bytes that are taken now.
    pub(crate) fn n_taken(&self) -> usize {
        self.lock().n_taken
    }

    /// Waits until nothing is taken.
    pub(crate) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.lock().holders.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Has holders give way until `n` more fit beside the `own` that the asking ticket has; all or none of it.
    fn make_room(&self, state: &mut State, peer: Peer, own: Option<u64>, n: usize) -> bool {
        let n_own = own.and_then(|id| state.holders.get(&id)).map_or(0, |h| h.n);
        let Some(mut lack) = self.lack(state, peer, n_own, n) else {
            return true;
        };
        let mut trial = Trial::of(state, peer);
        let mut leaving = Vec::new();
        for (id, their_peer) in self.candidates(state, peer, own) {
            if lack == Lack::Share && their_peer != peer {
                continue;
            }
            let freed = state.holders.get(&id).map_or(0, |holder| holder.n);
            trial.n_taken -= freed;
            if their_peer == peer {
                trial.n_of_peer -= freed;
            }
            leaving.push(id);
            match self.lack_in(trial, n_own, n) {
                None => {
                    leaving.into_iter().for_each(|id| state.withdraw(id));
                    return true;
                }
                Some(still) => lack = still,
            }
        }
        false
    }

    /// Holders that would give way, longest waiting first.
    fn candidates(&self, state: &State, peer: Peer, own: Option<u64>) -> Vec<(u64, Peer)> {
        let Some(patience) = self.rules.patience else {
            return Vec::new();
        };
        let now = Instant::now();
        let mut waiting: Vec<_> = state
            .holders
            .iter()
            .filter(|(id, _)| Some(**id) != own)
            .filter_map(|(id, holder)| Some((holder.waiting_since?, *id, holder.peer)))
            .filter(|(since, ..)| *since + patience <= now)
            .collect();
        // Among those that wait equally long, the peer's own go first.
        waiting.sort_unstable_by_key(|&(since, id, theirs)| (since, theirs != peer, id));
        waiting
            .into_iter()
            .map(|(_, id, peer)| (id, peer))
            .collect()
    }

    fn lack(&self, state: &State, peer: Peer, n_own: usize, n: usize) -> Option<Lack> {
        self.lack_in(Trial::of(state, peer), n_own, n)
    }

    /// Why `n` more would not fit. `n_own` is what the asking ticket has already: one thing, however large, is
    /// no unfair share.
    fn lack_in(&self, trial: Trial, n_own: usize, n: usize) -> Option<Lack> {
        let taken_then = trial.n_taken.saturating_add(n);
        let Some(free_then) = self.limit().checked_sub(taken_then) else {
            return Some(Lack::Room);
        };
        if trial.n_of_peer == n_own {
            return None;
        }
        let share = u128::from(self.rules.share_percent.min(100));
        let theirs = trial.n_of_peer.saturating_add(n) as u128 * (100 - share);
        let for_others = (free_then as u128 + 1) * share;
        (theirs > for_others).then_some(Lack::Share)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        lock(&self.state)
    }
}

/// What a gate would look like.
#[derive(Debug, Clone, Copy)]
struct Trial {
    n_taken: usize,
    n_of_peer: usize,
}

impl Trial {
    fn of(state: &State, peer: Peer) -> Self {
        Self {
            n_taken: state.n_taken,
            n_of_peer: state.by_peer.get(&peer).copied().unwrap_or(0),
        }
    }
}

impl State {
    fn add(&mut self, peer: Peer, n: usize) {
        self.n_taken += n;
        *self.by_peer.entry(peer).or_default() += n;
    }

    fn subtract(&mut self, peer: Peer, n: usize) {
        self.n_taken -= n;
        if let Some(held) = self.by_peer.get_mut(&peer) {
            *held -= n;
            if *held == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.holders.remove(&id)?;
        self.subtract(holder.peer, holder.n);
        Some(holder)
    }

    fn withdraw(&mut self, id: u64) {
        if let Some(holder) = self.remove(id) {
            holder
                .withdrawal
                .is_withdrawn
                .store(true, Ordering::Release);
            holder.withdrawal.notify.notify_waiters();
        }
    }
}

impl Ticket {
    /// Takes more or gives some back; `false` where there is no room for more, or the ticket is withdrawn.
    pub(crate) fn resize(&self, n: usize) -> bool {
        let mut state = self.gate.lock();
        let Some((peer, n_held)) = state.holders.get(&self.id).map(|h| (h.peer, h.n)) else {
            return false;
        };
        match n.checked_sub(n_held) {
            Some(0) => return true,
            Some(more) => {
                if !self.gate.make_room(&mut state, peer, Some(self.id), more) {
                    return false;
                }
                state.add(peer, more);
            }
            None => state.subtract(peer, n_held - n),
        }
        if let Some(holder) = state.holders.get_mut(&self.id) {
            holder.n = n;
        }
        true
    }

    /// Of all tickets of its gate.
    pub(crate) fn limit(&self) -> usize {
        self.gate.limit()
    }

    /// Says since when its owner only waits, if it does: then it gives way to others, if its gate is so.
    pub fn set_waiting(&self, since: Option<Instant>) {
        if let Some(holder) = self.gate.lock().holders.get_mut(&self.id) {
            holder.waiting_since = since;
        }
    }

    /// Returns when this ticket has given way: what it stands for must end soon.
    pub async fn withdrawn(&self) {
        loop {
            let notified = self.withdrawal.notify.notified();
            if self.is_withdrawn() {
                return;
            }
            notified.await;
        }
    }

    /// Whether this ticket has given way.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawal.is_withdrawn.load(Ordering::Acquire)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.lock().remove(self.id);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
