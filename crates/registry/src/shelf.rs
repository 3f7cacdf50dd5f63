//! Models in memory in virtual time: a registry's limits and its order of eviction, without files, networks or threads.
//!
//! For simulations. Who goes for a newcomer, and what is refused, is decided by the code that decides it in a
//! [`Registry`](crate::Registry). Models are numbers here, and all lie on the host.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use lipsync_engine::Device;

use crate::{
    DeviceRoom, EvictionPolicy, RegistryError,
    budget::{Amount, Budget, Charge, Freed, Wanted},
    entry::{Candidate, choose},
};

/// See the module.
pub struct Shelf {
    budget: Arc<Budget>,
    policy: EvictionPolicy,
    models: BTreeMap<u32, Shelved>,
    /// Uses of all models that were ever here.
    counts: HashMap<u32, u64>,
    turns: u64,
}

/// What a model asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShelfNeeds {
    /// Bytes of its networks.
    pub weights_bytes: u64,
    /// Bytes that all workers together need to run it.
    pub arena_bytes: u64,
}

struct Shelved {
    charge: Charge,
    n_users: usize,
    last_turn: u64,
}

/// The only place: the host.
const HOST: usize = 0;

impl Shelf {
    /// Room for this many models, and bytes of weights and arenas.
    #[must_use]
    pub fn new(max_models: usize, max_bytes: u64, policy: EvictionPolicy) -> Self {
        let host = DeviceRoom {
            device: Device::Cpu,
            name: "cpu".to_owned(),
            max_bytes: u64::MAX,
        };
        Self {
            budget: Budget::new(max_models, max_bytes, vec![host]),
            policy,
            models: BTreeMap::new(),
            counts: HashMap::new(),
            turns: 0,
        }
    }

    /// Whether a model is here, or being loaded.
    #[must_use]
    pub fn holds(&self, model: u32) -> bool {
        self.models.contains_key(&model)
    }

    /// Models that are here or being loaded.
    #[must_use]
    pub fn n_models(&self) -> usize {
        self.models.len()
    }

    /// Makes room for a model that is not here, and gives those that went for it. Until
    /// [`give_back`](Self::give_back) it is in use, by its load.
    ///
    /// # Errors
    /// [`RegistryError::TooManyModels`], [`RegistryError::OutOfMemory`], [`RegistryError::NeverFits`]; then nobody went.
    pub fn load(&mut self, model: u32, needs: ShelfNeeds) -> Result<Vec<u32>, RegistryError> {
        let wanted = Wanted {
            amount: Amount {
                models: 1,
                bytes: needs.weights_bytes,
                host_bytes: 0,
            },
            arena_bytes: needs.arena_bytes,
        };
        let unused = self.models.iter().filter(|(_, held)| held.n_users == 0);
        let candidates = unused.map(|(&id, held)| {
            let count = self.counts.get(&id).copied().unwrap_or(0);
            Candidate {
                worth: self.policy.worth(count, held.last_turn),
                id,
                amount: held.charge.amount_for(HOST),
                arena_bytes: held.charge.arenas_for(HOST),
            }
        });
        let enough = |freed: &Freed| self.budget.fits(HOST, wanted, freed);
        let victims = choose(candidates.collect(), enough)
            .map_err(|_| self.budget.refusal(HOST, wanted, wanted.amount))?;
        for victim in &victims {
            self.models.remove(victim);
        }
        let mut charge = Charge::none(&self.budget, HOST);
        charge.grow_to(wanted.amount);
        charge.set_arenas(wanted.arena_bytes);
        let held = Shelved {
            charge,
            n_users: 1,
            last_turn: self.turn(),
        };
        self.models.insert(model, held);
        Ok(victims)
    }

    /// Somebody uses a model from now on; whether it is here.
    pub fn take(&mut self, model: u32) -> bool {
        let turn = self.turn();
        let Some(held) = self.models.get_mut(&model) else {
            return false;
        };
        held.n_users += 1;
        held.last_turn = turn;
        *self.counts.entry(model).or_default() += 1;
        true
    }

    /// A user has had work done.
    pub fn touch(&mut self, model: u32) {
        let turn = self.turn();
        if let Some(held) = self.models.get_mut(&model) {
            held.last_turn = turn;
        }
    }

    /// A user, or the load, is done with a model.
    pub fn give_back(&mut self, model: u32) {
        if let Some(held) = self.models.get_mut(&model) {
            held.n_users = held.n_users.saturating_sub(1);
        }
    }

    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("n_models", &self.models.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: ShelfNeeds = ShelfNeeds {
        weights_bytes: 10,
        arena_bytes: 5,
    };

    fn loaded(shelf: &mut Shelf, model: u32) -> Vec<u32> {
        let gone = shelf.load(model, NEEDS).unwrap();
        shelf.give_back(model);
        gone
    }

    #[test]
    fn who_was_used_longest_ago_goes_and_who_is_in_use_stays() {
        let mut shelf = Shelf::new(3, 1000, EvictionPolicy::Lru);
        for model in [1, 2, 3] {
            assert_eq!(loaded(&mut shelf, model), [0_u32; 0]);
        }
        assert!(shelf.take(1));
        shelf.give_back(1);
        assert_eq!(loaded(&mut shelf, 4), [2]);
        assert!(shelf.take(3));
        assert_eq!(loaded(&mut shelf, 5), [1]);
        assert!(!shelf.take(1) && shelf.holds(3));
        assert_eq!(shelf.n_models(), 3);
    }

    #[test]
    fn the_least_often_used_goes_where_that_is_the_policy() {
        let mut shelf = Shelf::new(2, 1000, EvictionPolicy::Lfu);
        for (model, n_uses) in [(1, 3), (2, 1)] {
            loaded(&mut shelf, model);
            for _ in 0..n_uses {
                assert!(shelf.take(model));
                shelf.give_back(model);
            }
        }
        assert_eq!(loaded(&mut shelf, 3), [2]);
        assert_eq!(loaded(&mut shelf, 2), [3], "its one use counts still");
    }

    #[test]
    fn bytes_are_bounded_with_the_largest_arena() {
        let mut shelf = Shelf::new(9, 35, EvictionPolicy::Lru);
        for model in [1, 2, 3] {
            assert_eq!(loaded(&mut shelf, model), [0_u32; 0]);
        }
        assert_eq!(loaded(&mut shelf, 4), [1], "4 x 10 + 5 are more than 35");
        let all = [2, 3, 4];
        assert!(all.into_iter().all(|model| shelf.take(model)));
        let refused = shelf.load(5, NEEDS).unwrap_err();
        assert!(
            matches!(refused, RegistryError::OutOfMemory { .. }),
            "{refused}"
        );
        assert!(all.into_iter().all(|model| shelf.holds(model)));
    }
}
