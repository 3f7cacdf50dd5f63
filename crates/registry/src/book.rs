//! The registry's book: what the registry was told last, and one entry per configured model.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, atomic::AtomicU64},
};

use lipsync_core::ModelId;

use crate::{
    Changes, Model, ModelConfig, RegistryConfig, RegistryError,
    entry::{Entry, State},
    usage::Usage,
};

/// Entries and the configuration that they come from, which only ever change together.
pub(crate) struct Book {
    pub config: Arc<RegistryConfig>,
    pub entries: BTreeMap<ModelId, Entry>,
    /// Figures of models that are not configured any more: they go on counting if the model comes back. There
    /// are as many as ids were ever configured, some hundred bytes each.
    departed: BTreeMap<ModelId, Arc<Usage>>,
    turns: Arc<AtomicU64>,
}

/// A load that has been begun, of the entry that has this very configuration.
pub(crate) struct Job {
    pub config: Arc<ModelConfig>,
    /// As it was when the load began.
    pub registry: Arc<RegistryConfig>,
    pub usage: Arc<Usage>,
}

/// What is left to do after a change of the book, outside its lock.
#[derive(Default)]
pub(crate) struct Turnover {
    pub changes: Changes,
    /// They were in memory, and are in no entry any more.
    pub dropped: Vec<Arc<Model>>,
    /// Loads for those who waited for the model as it was configured before.
    pub awaited: Vec<Job>,
    /// Models that are to be loaded although nobody waits.
    pub preloads: Vec<ModelId>,
}

impl Book {
    pub(crate) fn new(config: RegistryConfig) -> Self {
        let mut book = Self {
            config: Arc::new(RegistryConfig {
                models: Vec::new(),
                ..config.clone()
            }),
            entries: BTreeMap::new(),
            departed: BTreeMap::new(),
            turns: Arc::default(),
        };
        book.turn_over(config);
        book
    }

    /// Follows a new configuration. Models that it leaves as they are keep their entries, untouched.
    pub(crate) fn turn_over(&mut self, config: RegistryConfig) -> Turnover {
        let mut turnover = Turnover::default();
        let before = mem::replace(&mut self.config, Arc::new(config));
        let config = Arc::clone(&self.config);
        let mut leaving = mem::take(&mut self.entries);
        for model in &config.models {
            let id = model.id.clone();
            let entry = match leaving.remove(&id) {
                Some(entry) if *entry.config == *model && before.loads_alike(&config, model) => {
                    entry
                }
                Some(mut entry) => {
                    turnover.dropped.extend(entry.renew(model));
                    turnover.changes.changed.push(id.clone());
                    entry
                }
                None => {
                    turnover.changes.added.push(id.clone());
                    Entry::new(model, self.usage_of(&id))
                }
            };
            self.entries.insert(id, entry);
        }
        for (id, entry) in leaving {
            turnover.dropped.extend(self.depart(&id, entry));
            turnover.changes.removed.push(id);
        }
        let Changes { added, changed, .. } = &turnover.changes;
        let news: HashSet<&ModelId> = added.iter().chain(changed).collect();
        // In the order of the configuration: operators put first what is to be there first.
        for id in config.models.iter().map(|model| &model.id).filter(|id| news.contains(id)) {
            match self.entries.get(id) {
                Some(entry) if matches!(entry.state, State::Loading(_)) => {
                    turnover.awaited.extend(self.job(id));
                }
                Some(entry) if entry.config.preload => turnover.preloads.push(id.clone()),
                _ => {}
            }
        }
        turnover
    }

    /// Begins a load that nobody waits for, unless there is something already.
    pub(crate) fn begin_preload(&mut self, id: &ModelId) -> Option<Job> {
        let entry = self.entries.get_mut(id)?;
        if !entry.config.preload || !matches!(entry.state, State::Unloaded) {
            return None;
        }
        entry.state = State::Loading(Vec::new());
        self.job(id)
    }

    /// A load of a model, as it is configured now.
    pub(crate) fn job(&self, id: &ModelId) -> Option<Job> {
        let entry = self.entries.get(id)?;
        Some(Job {
            config: Arc::clone(&entry.config),
            registry: Arc::clone(&self.config),
            usage: Arc::clone(&entry.usage),
        })
    }

    /// The entry that a load belongs to, unless the model is configured otherwise by now.
    pub(crate) fn entry_of(&mut self, config: &Arc<ModelConfig>) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&config.id);
        entry.filter(|entry| Arc::ptr_eq(&entry.config, config))
    }

    /// The models in memory.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.entries
            .values()
            .filter_map(|entry| match &entry.state {
                State::Ready(model) => Some(model),
                _ => None,
            })
    }

    fn usage_of(&mut self, id: &ModelId) -> Arc<Usage> {
        let departed = self.departed.remove(id);
        departed.unwrap_or_else(|| Arc::new(Usage::new(Arc::clone(&self.turns))))
    }

    fn depart(&mut self, id: &ModelId, mut entry: Entry) -> Option<Arc<Model>> {
        let dropped = entry.unload();
        self.departed.insert(id.clone(), entry.usage);
        if let State::Loading(waiters) = entry.state {
            for waiter in waiters {
                // Who went away needs no answer.
                let _ = waiter.send(Err(RegistryError::Removed { id: id.clone() }));
            }
        }
        dropped
    }
}
