//! How much memory models may take, on each device, and who holds it.
//!
//! A model's generator lies on one device and is charged there. Where that is not the host, its audio
//! encoder is charged to the host, unless it runs on the same device. Beside the models there is what
//! workers need to run them: one arena each, as large as the largest model asks for. On the host that is
//! counted within the same limit as the weights, and no more once the model is gone; workers on other devices
//! keep their arenas for ever.

use std::{
    mem,
    sync::{Arc, Mutex},
};

use lipsync_engine::Device;

use crate::{DeviceRoom, RegistryError, lock};

/// An amount of memory: models, and the bytes that they may come to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub models: usize,
    /// On the device of the charge.
    pub bytes: u64,
    /// On the host, where that is another device.
    pub host_bytes: u64,
}

/// What a model asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    pub amount: Amount,
    /// Bytes that all workers of the device together need to run it.
    pub arena_bytes: u64,
}

/// What models that could go would give back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    pub amount: Amount,
    /// What workers keep for each of them: of all arenas the largest counts.
    pub arenas: Vec<u64>,
}

/// The limits and what is held of them.
#[derive(Debug)]
pub(crate) struct Budget {
    /// With what each device has, for weights and arenas.
    rooms: Vec<DeviceRoom>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    max_models: usize,
    /// For weights, on each device and the host. On the host arenas are within it, too.
    max_bytes: u64,
    models: usize,
    host_bytes: u64,
    devices: Vec<OnDevice>,
}

#[derive(Debug, Clone, Default)]
struct OnDevice {
    /// What models hold.
    bytes: u64,
    /// What the workers' arenas have grown to for good.
    kept_arenas: u64,
    /// What they may grow to for each model that is there.
    arenas: Vec<u64>,
}

impl OnDevice {
    /// What arenas take once models with these are gone.
    fn arenas_without(&self, freed: &[u64]) -> u64 {
        let mut left = self.arenas.clone();
        freed.iter().for_each(|&n_bytes| remove(&mut left, n_bytes));
        left.into_iter().fold(self.kept_arenas, u64::max)
    }
}

fn remove(arenas: &mut Vec<u64>, n_bytes: u64) {
    if let Some(place) = arenas.iter().position(|&n| n == n_bytes) {
        arenas.swap_remove(place);
    }
}

impl Budget {
    /// `max_bytes` bounds the weights on every device, beside what the device itself has; and on the host.
    pub(crate) fn new(max_models: usize, max_bytes: u64, rooms: Vec<DeviceRoom>) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::new(Held {
                max_models,
                max_bytes,
                models: 0,
                host_bytes: 0,
                devices: vec![OnDevice::default(); rooms.len()],
            }),
            rooms,
        })
    }

    /// Sets other limits. What is held stays, however much it is.
    pub(crate) fn limit(&self, max_models: usize, max_bytes: u64) {
        let mut held = lock(&self.held);
        held.max_models = max_models;
        held.max_bytes = max_bytes;
    }

    pub(crate) fn room(&self, place: usize) -> &DeviceRoom {
        &self.rooms[place]
    }

    /// Where `device` stands in the list.
    pub(crate) fn place_of(&self, device: Device) -> Option<usize> {
        self.rooms.iter().position(|room| room.device == device)
    }

    /// Places in the order in which models are put there: the least charged device first.
    pub(crate) fn places(&self) -> Vec<usize> {
        let held = lock(&self.held);
        let mut places: Vec<usize> = (0..self.rooms.len()).collect();
        places.sort_by_key(|&place| held.devices[place].bytes);
        places
    }

    /// Bytes that models hold, on all devices.
    pub(crate) fn held_bytes(&self) -> u64 {
        let held = lock(&self.held);
        held.host_bytes + held.devices.iter().map(|on| on.bytes).sum::<u64>()
    }

    /// Whether `wanted` would be there, on the device at `place`, once `freed` of what is held there
    /// and in all were given back.
    pub(crate) fn fits(&self, place: usize, wanted: Wanted, freed: &Freed) -> bool {
        let Freed {
            amount: freed,
            arenas: freed_arenas,
        } = freed;
        let held = lock(&self.held);
        let fits = |held: u64, freed: u64, wanted: u64, limit: u64| {
            (held - freed.min(held))
                .checked_add(wanted)
                .is_some_and(|n| n <= limit)
        };
        let Wanted {
            amount,
            arena_bytes,
        } = wanted;
        let on = &held.devices[place];
        let (bytes, arenas) = (on.bytes, on.arenas_without(freed_arenas));
        let with_arenas = amount.bytes.saturating_add(arenas.max(arena_bytes));
        let host = (held.host_bytes, freed.host_bytes, amount.host_bytes);
        let with_arenas_max = self.max_with_arenas(place, &held);
        held.models.saturating_sub(freed.models) + amount.models <= held.max_models
            && fits(bytes, freed.bytes, amount.bytes, held.max_bytes)
            && fits(bytes, freed.bytes, with_arenas, with_arenas_max)
            && fits(host.0, host.1, host.2, held.max_bytes)
    }

    /// What weights and arenas together may take on the device at `place`.
    fn max_with_arenas(&self, place: usize, held: &Held) -> u64 {
        let room = &self.rooms[place];
        match room.device {
            Device::Cpu => room.max_bytes.min(held.max_bytes),
            Device::Cuda(_) => room.max_bytes,
        }
    }

    /// Why `wanted` cannot be had, by a model that needs `needed` in all.
    pub(crate) fn refusal(&self, place: usize, wanted: Wanted, needed: Amount) -> RegistryError {
        let no_model = Amount {
            models: 0,
            ..wanted.amount
        };
        let bytes_alone = Wanted {
            amount: no_model,
            ..wanted
        };
        let needed_bytes = needed.bytes + needed.host_bytes + wanted.arena_bytes;
        let could_fit = self.could_fit(place, needed, wanted.arena_bytes);
        let has_bytes = self.fits(place, bytes_alone, &Freed::default());
        let room = &self.rooms[place];
        let held = lock(&self.held);
        let budget = room.max_bytes.min(held.max_bytes);
        if !could_fit {
            RegistryError::NeverFits {
                needed: needed_bytes,
                budget,
                limit: if room.max_bytes < held.max_bytes {
                    "the memory of its device"
                } else {
                    "capacity.max_memory_gb"
                },
            }
        } else if has_bytes {
            RegistryError::TooManyModels {
                max_models: held.max_models,
            }
        } else {
            RegistryError::OutOfMemory {
                needed: needed_bytes,
                budget,
            }
        }
    }

    /// Whether a model would fit on the device at `place` if there were no other.
    fn could_fit(&self, place: usize, needed: Amount, arena_bytes: u64) -> bool {
        let held = lock(&self.held);
        let arenas = held.devices[place].kept_arenas.max(arena_bytes);
        needed.bytes.max(needed.host_bytes) <= held.max_bytes
            && needed.bytes.saturating_add(arenas) <= self.max_with_arenas(place, &held)
    }

    /// Workers have run a model that needs arenas of so many bytes. On the host they give them back when the
    /// model goes, on others they keep them.
    pub(crate) fn keep_arenas(&self, place: usize, n_bytes: u64) {
        if self.rooms[place].device != Device::Cpu {
            let arenas = &mut lock(&self.held).devices[place].kept_arenas;
            *arenas = n_bytes.max(*arenas);
        }
    }
}

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    place: usize,
    amount: Amount,
    /// What all workers may keep for the model, where they give it back after it; 0 is not entered.
    arena_bytes: u64,
}

impl Charge {
    /// A share of nothing, on the device at `place`.
    pub(crate) fn none(budget: &Arc<Budget>, place: usize) -> Self {
        Self {
            budget: Arc::clone(budget),
            place,
            amount: Amount::default(),
            arena_bytes: 0,
        }
    }

    pub(crate) fn amount(&self) -> Amount {
        self.amount
    }

    pub(crate) fn place(&self) -> usize {
        self.place
    }

    pub(crate) fn room(&self) -> &DeviceRoom {
        self.budget.room(self.place)
    }

    /// What of it is of use to a model on the device at `place`.
    pub(crate) fn amount_for(&self, place: usize) -> Amount {
        let here = place == self.place;
        Amount {
            bytes: if here { self.amount.bytes } else { 0 },
            ..self.amount
        }
    }

    /// What workers of the device at `place` may keep for the model.
    pub(crate) fn arenas_for(&self, place: usize) -> u64 {
        if place == self.place {
            self.arena_bytes
        } else {
            0
        }
    }

    /// Takes note of what all workers of the host may come to need for the model; of other devices,
    /// [`Budget::keep_arenas`] does.
    pub(crate) fn set_arenas(&mut self, n_bytes: u64) {
        if self.room().device != Device::Cpu {
            return;
        }
        let mut held = lock(&self.budget.held);
        let arenas = &mut held.devices[self.place].arenas;
        remove(arenas, self.arena_bytes);
        if n_bytes > 0 {
            arenas.push(n_bytes);
        }
        self.arena_bytes = n_bytes;
    }

    /// Leaves nothing behind.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Self::none(&self.budget, self.place);
        mem::replace(self, nothing)
    }

    /// Takes over what is of use here of another share of the same budget; the rest is given back.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        let theirs = other.amount_for(self.place);
        let rest = Amount {
            bytes: other.amount.bytes - theirs.bytes,
            ..Amount::default()
        };
        other.amount = rest;
        self.amount.models += theirs.models;
        self.amount.bytes += theirs.bytes;
        self.amount.host_bytes += theirs.host_bytes;
    }

    /// Whether there is more to take is the caller's to know ([`Budget::fits`]).
    fn resize(&mut self, amount: Amount) {
        let mut held = lock(&self.budget.held);
        // Never below zero: what a charge has is part of what is held.
        held.models = held.models - self.amount.models + amount.models;
        held.host_bytes = held.host_bytes - self.amount.host_bytes + amount.host_bytes;
        let bytes = &mut held.devices[self.place].bytes;
        *bytes = *bytes - self.amount.bytes + amount.bytes;
        self.amount = amount;
    }

    /// Becomes at least `amount`.
    pub(crate) fn grow_to(&mut self, amount: Amount) {
        self.resize(Amount {
            models: self.amount.models.max(amount.models),
            bytes: self.amount.bytes.max(amount.bytes),
            host_bytes: self.amount.host_bytes.max(amount.host_bytes),
        });
    }

    /// Becomes at most `amount`.
    pub(crate) fn shrink_to(&mut self, amount: Amount) {
        self.resize(Amount {
            models: self.amount.models.min(amount.models),
            bytes: self.amount.bytes.min(amount.bytes),
            host_bytes: self.amount.host_bytes.min(amount.host_bytes),
        });
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set_arenas(0);
        self.resize(Amount::default());
    }
}
