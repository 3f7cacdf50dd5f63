//! How much memory models may take, and who holds it.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use crate::{RegistryError, lock};

/// An amount of memory: models, and the bytes that they may come to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub models: usize,
    pub bytes: u64,
}

/// The limits and what is held of them.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Amount,
    held: Mutex<Amount>,
}

impl Budget {
    pub(crate) fn new(limit: Amount) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: Mutex::new(Amount::default()),
        })
    }

    pub(crate) fn held(&self) -> Amount {
        *lock(&self.held)
    }

    /// Whether `wanted` would be there once `freed` of what is held were given back.
    pub(crate) fn fits(&self, wanted: Amount, freed: Amount) -> bool {
        let held = self.held();
        let fits = |held: u64, wanted: u64, freed: u64, limit: u64| {
            (held - freed.min(held))
                .checked_add(wanted)
                .is_some_and(|n| n <= limit)
        };
        let models = held.models.saturating_sub(freed.models) + wanted.models;
        models <= self.limit.models && fits(held.bytes, wanted.bytes, freed.bytes, self.limit.bytes)
    }

    /// Why `wanted` cannot be had.
    pub(crate) fn refusal(&self, wanted: Amount, needed_bytes: u64) -> RegistryError {
        if self.fits(
            Amount {
                models: 0,
                ..wanted
            },
            Amount::default(),
        ) {
            RegistryError::TooManyModels {
                max_models: self.limit.models,
            }
        } else {
            RegistryError::OutOfMemory {
                needed: needed_bytes,
                budget: self.limit.bytes,
            }
        }
    }
}

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    amount: Amount,
}

impl Charge {
    /// A share of nothing.
    pub(crate) fn none(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            amount: Amount::default(),
        }
    }

    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    /// Leaves nothing behind.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Self::none(&self.budget);
        mem::replace(self, nothing)
    }

    /// Takes over another share of the same budget.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        let theirs = mem::take(&mut other.amount);
        self.amount.models += theirs.models;
        self.amount.bytes += theirs.bytes;
    }

    /// Whether there is more to take is the caller's to know ([`Budget::fits`]).
    fn resize(&mut self, amount: Amount) {
        let mut held = lock(&self.budget.held);
        // Never below zero: what a charge has is part of what is held.
        held.models = held.models - self.amount.models + amount.models;
        held.bytes = held.bytes - self.amount.bytes + amount.bytes;
        self.amount = amount;
    }

    /// Becomes at least `amount`.
    pub(crate) fn grow_to(&mut self, amount: Amount) {
        self.resize(Amount {
            models: self.amount.models.max(amount.models),
            bytes: self.amount.bytes.max(amount.bytes),
        });
    }

    /// Becomes at most `amount`.
    pub(crate) fn shrink_to(&mut self, amount: Amount) {
        self.resize(Amount {
            models: self.amount.models.min(amount.models),
            bytes: self.amount.bytes.min(amount.bytes),
        });
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.resize(Amount::default());
    }
}
