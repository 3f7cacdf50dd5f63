//! A configured model's entry in the book, and who is dropped when room is needed.

use std::sync::Arc;

use lipsync_core::ModelId;
use tokio::sync::{oneshot, watch};

use crate::{
    EvictionPolicy, Model, ModelConfig, ModelInfo, ModelState, ModelStatus, RegistryError,
    UnloadReason,
    book::Book,
    budget::{Amount, Freed},
    usage::Usage,
};

/// What everyone who waits for a load is told.
pub(crate) type Outcome = Result<Arc<Model>, RegistryError>;

pub(crate) struct Entry {
    /// A load belongs to this very one: what was begun under another lands nowhere.
    pub config: Arc<ModelConfig>,
    pub state: State,
    pub usage: Arc<Usage>,
    pub info: Option<ModelInfo>,
    /// Whether the last load failed; also while it is tried again.
    pub failed: watch::Sender<bool>,
}

pub(crate) enum State {
    Unloaded,
    /// The other ends are with those who wait in `Registry::load`.
    Loading(Vec<oneshot::Sender<Outcome>>),
    Ready(Arc<Model>),
    Failed(RegistryError),
}

impl Entry {
    pub(crate) fn new(config: &ModelConfig, usage: Arc<Usage>) -> Self {
        Self {
            config: Arc::new(config.clone()),
            state: State::Unloaded,
            usage,
            info: None,
            failed: watch::Sender::new(false),
        }
    }

    /// Becomes the entry of another configuration of the same model, with nothing loaded; gives back what was.
    ///
    /// Those who wait for a load wait on, for that of the new configuration, which has to be begun for them.
    pub(crate) fn renew(&mut self, config: &ModelConfig) -> Option<Arc<Model>> {
        let dropped = self.unload(UnloadReason::Changed);
        self.config = Arc::new(config.clone());
        self.info = None;
        if let State::Loading(waiters) = &mut self.state {
            waiters.retain(|waiter| !waiter.is_closed());
        }
        let is_awaited = matches!(&self.state, State::Loading(waiters) if !waiters.is_empty());
        if !is_awaited {
            self.state = State::Unloaded;
        }
        self.tell();
        dropped
    }

    /// The model, if nobody else holds it.
    ///
    /// Only the book hands out references, and only under its lock. So what is unused here stays
    /// unused until the lock is given back.
    pub(crate) fn unused(&mut self) -> Option<&mut Model> {
        match &mut self.state {
            State::Ready(model) => Arc::get_mut(model),
            _ => None,
        }
    }

    /// Forgets a ready model; whoever still holds it keeps it.
    pub(crate) fn unload(&mut self, reason: UnloadReason) -> Option<Arc<Model>> {
        if !matches!(self.state, State::Ready(_)) {
            return None;
        }
        self.usage.count_unload(reason);
        match std::mem::replace(&mut self.state, State::Unloaded) {
            State::Ready(model) => Some(model),
            _ => None,
        }
    }

    /// Tells those who watch how a load has ended.
    pub(crate) fn tell(&self) {
        let is_failed = matches!(self.state, State::Failed(_));
        self.failed
            .send_if_modified(|failed| std::mem::replace(failed, is_failed) != is_failed);
    }

    pub(crate) fn status(&self) -> ModelStatus {
        let (state, failure, model) = match &self.state {
            State::Unloaded => (ModelState::Unloaded, None, None),
            State::Loading(_) => (ModelState::Loading, None, None),
            State::Failed(error) => (ModelState::Failed, Some(error.to_string()), None),
            State::Ready(model) => (ModelState::Ready, None, Some(model)),
        };
        let usage = self.usage.record();
        let times = self.usage.times();
        ModelStatus {
            id: self.config.id.clone(),
            state,
            failure,
            device: model.map(|m| m.charge.room().name.clone()),
            precision: model.map(|m| m.precision().clone()),
            info: self.info,
            weights_bytes: model.map_or(0, |m| m.weights_bytes()),
            background_cache: model.map(|m| m.cache_stats()),
            decoded_cache: model.map(|m| m.decoded_stats()),
            pack: model.map(|m| m.pack_state()),
            visual_cache: model.and_then(|m| m.generator.visual_cache()),
            reserved_bytes: model.map_or(0, |m| m.reserved_bytes()),
            usage_count: usage.count,
            last_used_unix_ms: usage.last_used_unix_ms(),
            frames: usage.frames,
            total_inference: usage.total_inference,
            loads: usage.loads,
            unloads: times.unloads.iter().map(|(_, n)| n).sum(),
            times,
        }
    }
}

/// Which unused models have to go, the least worth first, so that what they free is enough for the device
/// at `place`; an error, with all that hold something there, where even they are not.
pub(crate) fn victims(
    book: &mut Book,
    policy: EvictionPolicy,
    place: usize,
    is_enough: impl Fn(&Freed) -> bool,
) -> Result<Vec<ModelId>, Vec<ModelId>> {
    let candidates = book.entries.iter_mut().filter_map(|(id, entry)| {
        let worth = entry.usage.record().worth(policy);
        let charge = &entry.unused()?.charge;
        Some(Candidate {
            worth,
            id: id.clone(),
            amount: charge.amount_for(place),
            arena_bytes: charge.arenas_for(place),
        })
    });
    choose(candidates.collect(), is_enough)
}

/// A model that nobody uses.
pub(crate) struct Candidate<Id> {
    /// What is least goes first.
    pub worth: (u64, u64),
    pub id: Id,
    /// What it holds on a device.
    pub amount: Amount,
    /// What workers keep for it there.
    pub arena_bytes: u64,
}

/// As [`victims`], of these.
pub(crate) fn choose<Id>(
    mut candidates: Vec<Candidate<Id>>,
    is_enough: impl Fn(&Freed) -> bool,
) -> Result<Vec<Id>, Vec<Id>> {
    candidates.sort_unstable_by_key(|candidate| candidate.worth);
    let mut chosen = Vec::new();
    let mut candidates = candidates.into_iter();
    while !is_enough(&sum(&chosen)) {
        let Some(candidate) = candidates.next() else {
            chosen.retain(|candidate: &Candidate<Id>| candidate.amount.bytes > 0);
            return Err(ids(chosen));
        };
        chosen.push(candidate);
    }
    // Of models on other devices not all that were passed on the way are of any help.
    let mut next = 0;
    while next < chosen.len() {
        let spared = chosen.remove(next);
        if !is_enough(&sum(&chosen)) {
            chosen.insert(next, spared);
            next += 1;
        }
    }
    Ok(ids(chosen))
}

fn sum<Id>(chosen: &[Candidate<Id>]) -> Freed {
    let mut freed = Freed::default();
    for Candidate {
        amount,
        arena_bytes,
        ..
    } in chosen
    {
        freed.amount.models += amount.models;
        freed.amount.bytes += amount.bytes;
        freed.amount.host_bytes += amount.host_bytes;
        freed.arenas.push(*arena_bytes);
    }
    freed
}

fn ids<Id>(chosen: Vec<Candidate<Id>>) -> Vec<Id> {
    chosen.into_iter().map(|candidate| candidate.id).collect()
}
