//! A bounded number of places, or of bytes, that peers and tenants share.
//!
//! Four rules hold for every gate. What is taken is never more than the limit. One peer never takes all, and one
//! tenant neither: what they hold stays in proportion to what is left for others. A tenant never holds more than its
//! quota. And where a gate has patience, a holder that only waits (for its client, mostly) gives way to a newcomer
//! when there is no room left; its owner learns that from `Ticket::withdrawn` and ends what it was doing.
//!
//! [`crate::admission`] decides what a place stands for, and words the refusals.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use lipsync_core::{TenantId, sync::lock};
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
    /// The same for one tenant.
    pub tenant_share_percent: u32,
    /// How long a holder may have waited before it gives way; `None`: it never does.
    pub patience: Option<Duration>,
}

/// For whom something is taken.
#[derive(Debug, Clone)]
pub struct Party {
    /// Where the call came from.
    pub peer: Peer,
    /// Its tenant, where there are several.
    pub tenant: Option<TenantId>,
    /// The most that this tenant may hold of the gate.
    pub quota: Option<usize>,
}

impl From<Peer> for Party {
    /// Somebody whose tenant does not matter, or is not known yet.
    fn from(peer: Peer) -> Self {
        Self {
            peer,
            tenant: None,
            quota: None,
        }
    }
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
    by_tenant: HashMap<TenantId, usize>,
    holders: HashMap<u64, Holder>,
    /// Those that wait, by since when: there may be tens of thousands, and whoever finds no room looks for the first.
    waiting: BTreeSet<(Instant, u64)>,
    next_id: u64,
}

#[derive(Debug)]
struct Holder {
    party: Party,
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
pub enum Lack {
    /// There is no room for anybody, or the ticket has given way.
    Room,
    /// This peer has its share.
    Peer,
    /// This tenant has its share.
    Tenant,
    /// This tenant has all that it may have.
    Quota,
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

    /// Takes this many for somebody, if there is room or can be made.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn take(self: &Arc<Self>, party: impl Into<Party>, n: usize) -> Result<Ticket, Lack> {
        let party = party.into();
        let mut state = self.lock();
        self.make_room(&mut state, &party, None, n)?;
        let id = state.next_id;
        state.next_id += 1;
        let withdrawal = Arc::<Withdrawal>::default();
        state.add(&party, n);
        let holder = Holder {
            party,
            n,
            waiting_since: None,
            withdrawal: Arc::clone(&withdrawal),
        };
        state.holders.insert(id, holder);
        Ok(Ticket {
            gate: Arc::clone(self),
            id,
            withdrawal,
        })
    }

    /// Why one more place would not be given to somebody now, if so.
    pub(crate) fn lack_of_one(&self, party: &Party) -> Option<Lack> {
        let state = self.lock();
        let lack = self.lack_in(party, Trial::of(&state, party), 0, 1)?;
        let has_candidate = || self.candidates(&state, party, None).next().is_some();
        let can_be_made = self.rules.patience.is_some() && has_candidate();
        (!can_be_made).then_some(lack)
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
    fn make_room(
        &self,
        state: &mut State,
        party: &Party,
        own: Option<u64>,
        n: usize,
    ) -> Result<(), Lack> {
        let n_own = own.and_then(|id| state.holders.get(&id)).map_or(0, |h| h.n);
        let mut trial = Trial::of(state, party);
        let Some(mut lack) = self.lack_in(party, trial, n_own, n) else {
            return Ok(());
        };
        let mut leaving = Vec::new();
        let mut is_enough = false;
        for candidate in self.candidates(state, party, own) {
            if !candidate.helps(lack) {
                continue;
            }
            trial.free(&candidate);
            leaving.push(candidate.id);
            match self.lack_in(party, trial, n_own, n) {
                None => {
                    is_enough = true;
                    break;
                }
                Some(still) => lack = still,
            }
        }
        if !is_enough {
            return Err(lack);
        }
        leaving.into_iter().for_each(|id| state.withdraw(id));
        Ok(())
    }

    /// Holders that would give way, longest waiting first. Among those that wait equally long, the peer's own are.
    fn candidates(
        &self,
        state: &State,
        party: &Party,
        own: Option<u64>,
    ) -> impl Iterator<Item = Candidate> {
        let last = self
            .rules
            .patience
            .and_then(|p| Instant::now().checked_sub(p));
        let may_leave = move |(since, _): &&(Instant, u64)| last.is_some_and(|last| *since <= last);
        let mut waiting = state.waiting.iter().take_while(may_leave).peekable();
        let since_one_moment = std::iter::from_fn(move || {
            let (since, first) = waiting.next()?;
            let mut ids = vec![*first];
            while let Some((_, id)) = waiting.next_if(|(other, _)| other == since) {
                ids.push(*id);
            }
            Some(ids)
        });
        since_one_moment.flat_map(move |mut ids| {
            ids.retain(|id| Some(*id) != own);
            let holders = ids.iter().filter_map(|&id| {
                let holder = state.holders.get(&id)?;
                Some(Candidate::of(id, holder, party))
            });
            let mut candidates: Vec<_> = holders.collect();
            candidates.sort_unstable_by_key(|other| (!other.is_same_peer, other.id));
            candidates
        })
    }

    /// Why `n` more would not fit. `n_own` is what the asking ticket has already: one thing, however large, is
    /// no unfair share.
    fn lack_in(&self, party: &Party, trial: Trial, n_own: usize, n: usize) -> Option<Lack> {
        let n_of_tenant = trial.n_of_tenant.saturating_add(n);
        if party.quota.is_some_and(|quota| n_of_tenant > quota) {
            return Some(Lack::Quota);
        }
        let taken_then = trial.n_taken.saturating_add(n);
        let Some(free_then) = self.limit().checked_sub(taken_then) else {
            return Some(Lack::Room);
        };
        let exceeds = |n_held: usize, share_percent: u32| {
            let share = u128::from(share_percent.min(100));
            let theirs = n_held.saturating_add(n) as u128 * (100 - share);
            n_held != n_own && theirs > (free_then as u128 + 1) * share
        };
        if exceeds(trial.n_of_peer, self.rules.share_percent) {
            return Some(Lack::Peer);
        }
        let has_tenant = party.tenant.is_some();
        (has_tenant && exceeds(trial.n_of_tenant, self.rules.tenant_share_percent))
            .then_some(Lack::Tenant)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole.
        lock(&self.state)
    }
}

/// A holder that would give way.
struct Candidate {
    id: u64,
    n: usize,
    is_same_peer: bool,
    is_same_tenant: bool,
}

impl Candidate {
    fn of(id: u64, holder: &Holder, party: &Party) -> Self {
        let theirs = &holder.party;
        Self {
            id,
            n: holder.n,
            is_same_peer: theirs.peer == party.peer,
            is_same_tenant: theirs.tenant.is_some() && theirs.tenant == party.tenant,
        }
    }

    /// Whether it makes room of the kind that is missing.
    fn helps(&self, lack: Lack) -> bool {
        match lack {
            Lack::Room => true,
            Lack::Peer => self.is_same_peer,
            Lack::Tenant | Lack::Quota => self.is_same_tenant,
        }
    }
}

/// What a gate would look like.
#[derive(Debug, Clone, Copy)]
struct Trial {
    n_taken: usize,
    n_of_peer: usize,
    n_of_tenant: usize,
}

impl Trial {
    fn of(state: &State, party: &Party) -> Self {
        let tenant = party.tenant.as_ref();
        let n_of_tenant = tenant.and_then(|tenant| state.by_tenant.get(tenant));
        Self {
            n_taken: state.n_taken,
            n_of_peer: state.by_peer.get(&party.peer).copied().unwrap_or(0),
            n_of_tenant: n_of_tenant.copied().unwrap_or(0),
        }
    }

    fn free(&mut self, candidate: &Candidate) {
        let n = candidate.n;
        self.n_taken -= n;
        if candidate.is_same_peer {
            self.n_of_peer -= n;
        }
        if candidate.is_same_tenant {
            self.n_of_tenant -= n;
        }
    }
}

/// Takes `n` from what a key holds; what holds nothing is forgotten.
fn subtract<K: Eq + Hash>(held: &mut HashMap<K, usize>, key: &K, n: usize) {
    if let Some(n_held) = held.get_mut(key) {
        *n_held -= n;
        if *n_held == 0 {
            held.remove(key);
        }
    }
}

impl State {
    fn add(&mut self, party: &Party, n: usize) {
        self.n_taken += n;
        *self.by_peer.entry(party.peer).or_default() += n;
        if let Some(tenant) = &party.tenant {
            *self.by_tenant.entry(tenant.clone()).or_default() += n;
        }
    }

    fn subtract(&mut self, party: &Party, n: usize) {
        self.n_taken -= n;
        subtract(&mut self.by_peer, &party.peer, n);
        if let Some(tenant) = &party.tenant {
            subtract(&mut self.by_tenant, tenant, n);
        }
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.holders.remove(&id)?;
        if let Some(since) = holder.waiting_since {
            self.waiting.remove(&(since, id));
        }
        self.subtract(&holder.party, holder.n);
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
    /// Takes more or gives some back.
    ///
    /// # Errors
    /// What there is too little of; [`Lack::Room`] as well where the ticket is withdrawn.
    pub(crate) fn resize(&self, n: usize) -> Result<(), Lack> {
        let mut state = self.gate.lock();
        let held = state.holders.get(&self.id);
        let (party, n_held) = held.map(|h| (h.party.clone(), h.n)).ok_or(Lack::Room)?;
        match n.checked_sub(n_held) {
            Some(0) => return Ok(()),
            Some(more) => {
                self.gate
                    .make_room(&mut state, &party, Some(self.id), more)?;
                state.add(&party, more);
            }
            None => state.subtract(&party, n_held - n),
        }
        if let Some(holder) = state.holders.get_mut(&self.id) {
            holder.n = n;
        }
        Ok(())
    }

    /// Of all tickets of its gate.
    pub(crate) fn limit(&self) -> usize {
        self.gate.limit()
    }

    /// Says since when its owner only waits, if it does: then it gives way to others, if its gate is so.
    pub fn set_waiting(&self, since: Option<Instant>) {
        let mut state = self.gate.lock();
        let State {
            holders, waiting, ..
        } = &mut *state;
        if let Some(holder) = holders.get_mut(&self.id) {
            if let Some(before) = std::mem::replace(&mut holder.waiting_since, since) {
                waiting.remove(&(before, self.id));
            }
            waiting.extend(since.map(|since| (since, self.id)));
        }
    }

    /// Gives way now, without being asked: what this ticket stands for must end soon.
    pub fn give_up(&self) {
        self.gate.lock().withdraw(self.id);
        self.gate.changed.notify_waiters();
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
