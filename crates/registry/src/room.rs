//! Making room: where a model goes, and who goes for it.

use std::sync::Arc;

use lipsync_engine::{Device, MakeRoom};

use crate::{
    Model, Registry, RegistryError, UnloadReason,
    budget::{Amount, Charge, Freed, Wanted},
    entry::victims,
    load::Room,
    lock,
    registry::Shared,
};

impl Room for Shared {
    /// On the device that has the fewest bytes charged, of those where it fits beside what is there;
    /// where it fits nowhere, on the first where others can go for it.
    fn place(&self, wanted: Wanted) -> Result<Charge, RegistryError> {
        let places = self.budget.places();
        let nothing = Freed::default();
        let free = places
            .iter()
            .find(|&&place| self.budget.fits(place, wanted, &nothing));
        let mut refusal = None;
        for &place in free.into_iter().chain(&places) {
            let mut charge = Charge::none(&self.budget, place);
            match self.charge(&mut charge, wanted) {
                Ok(()) => return Ok(charge),
                // Where it could fit on any device, trying later may help.
                Err(error) => match refusal {
                    None | Some(RegistryError::NeverFits { .. }) => refusal = Some(error),
                    Some(_) => {}
                },
            }
        }
        Err(refusal.unwrap_or(RegistryError::OutOfMemory {
            needed: wanted.amount.bytes,
            budget: 0,
        }))
    }

    /// What is dropped for the newcomer is counted until its memory is really free, so that the
    /// budget holds at every moment and not only on paper.
    fn charge(&self, charge: &mut Charge, wanted: Wanted) -> Result<(), RegistryError> {
        let have = charge.amount();
        let amount = wanted.amount;
        let missing = Amount {
            models: amount.models.saturating_sub(have.models),
            bytes: amount.bytes.saturating_sub(have.bytes),
            host_bytes: amount.host_bytes.saturating_sub(have.host_bytes),
        };
        let mut dropped = Vec::new();
        let place = charge.place();
        if missing != Amount::default() || wanted.arena_bytes > charge.arenas_for(place) {
            let missing = Wanted {
                amount: missing,
                ..wanted
            };
            let mut book = lock(&self.book);
            let policy = book.config.eviction;
            let enough = |freed: &Freed| self.budget.fits(place, missing, freed);
            let ids = victims(&mut book, policy, place, enough)
                .map_err(|_| self.budget.refusal(place, missing, amount))?;
            for id in ids {
                let Some(entry) = book.entries.get_mut(&id) else {
                    continue;
                };
                if let Some(model) = entry.unused() {
                    charge.absorb(model.charge.take());
                }
                dropped.extend(entry.unload(UnloadReason::Room));
            }
            charge.grow_to(amount);
            charge.set_arenas(wanted.arena_bytes);
        }
        drop_models(dropped);
        charge.shrink_to(amount);
        Ok(())
    }

    fn keep_arenas(&self, charge: &Charge, n_bytes: u64) {
        self.budget.keep_arenas(charge.place(), n_bytes);
    }
}

impl MakeRoom for Registry {
    /// Drops models that nobody uses and that lie on `device`, in the order of eviction, until `n_bytes`
    /// are free or there are no more; whether any was dropped. Blocks while memory is given back.
    fn make_room(&self, device: Device, n_bytes: u64) -> bool {
        self.shared.make_room(device, n_bytes)
    }
}

impl MakeRoom for Shared {
    fn make_room(&self, device: Device, n_bytes: u64) -> bool {
        let Some(place) = self.budget.place_of(device) else {
            return false;
        };
        self.evict(place, |freed| freed.amount.bytes >= n_bytes)
    }
}

impl Shared {
    /// Drops unused models, in the order of eviction, until no more is held than the limits allow or there are
    /// no more to drop.
    pub(crate) fn evict_excess(&self) {
        for place in self.budget.places() {
            self.evict(place, |freed| {
                self.budget.fits(place, Wanted::default(), freed)
            });
        }
    }

    /// Drops unused models of the device at `place`, in the order of eviction, until `is_enough` or there are no
    /// more: less than was asked for is better than nothing. Whether any was dropped.
    fn evict(&self, place: usize, is_enough: impl Fn(&Freed) -> bool) -> bool {
        let mut book = lock(&self.book);
        let policy = book.config.eviction;
        let (Ok(ids) | Err(ids)) = victims(&mut book, policy, place, is_enough);
        let unload = |id| book.entries.get_mut(&id)?.unload(UnloadReason::Room);
        let dropped: Vec<_> = ids.into_iter().filter_map(unload).collect();
        drop(book);
        let any = !dropped.is_empty();
        drop_models(dropped);
        any
    }
}

/// Gives their memory back; never under a lock.
fn drop_models(models: Vec<Arc<Model>>) {
    for model in models {
        tracing::info!(model = %model.id(), "model evicted");
    }
}
