//! Batches under way: while a worker's stream computes one, the next is filled in and started behind it, and then the
//! faces of the first are copied out while the second computes.
//!
//! Two batches, because there are two staging memories and whoever hands out batches has at most one that waits. The
//! stream runs them one after the other, so they share the arena and the spare entries. What neither may lose while
//! it is under way, the flight holds.

use std::{ops::Range, sync::Arc};

use super::{
    driver::Set,
    entries::Entry,
    network::Network,
    worker::{Layout, Work, Worker},
};
use crate::{EngineError, Ticket, generator::no_such_batch, visual_cache::Claim};

/// Batches under way at once, at most.
pub(super) const MAX_FLIGHTS: usize = 2;

/// A frame's entry, as a batch finds it.
#[derive(Debug)]
pub(super) enum Source {
    /// Kept from before.
    Kept(Arc<Entry>),
    /// To be made and kept.
    Fresh(Entry, Claim),
    /// To be made for this batch alone.
    Spare,
}

/// What a batch reads and writes on the device, apart from the worker's own memory.
#[derive(Debug)]
pub(super) struct Hold {
    pub sources: Vec<Source>,
    /// Its weights stay, and its captured launches.
    pub network: Arc<Network>,
}

/// A batch that was started.
#[derive(Debug)]
pub(super) struct Flight {
    ticket: Ticket,
    set: Set,
    /// Where its results are in the staging memory.
    results: Range<usize>,
    hold: Hold,
    /// What it met before somebody waited for it.
    failed: Option<EngineError>,
}

impl Worker {
    /// Whether one more batch can be started.
    pub(super) fn has_room(&self) -> bool {
        self.flights.len() < MAX_FLIGHTS
    }

    /// Starts a batch behind those that are under way, and makes the entries that have a crop on the way.
    pub(super) fn begin(&mut self, batch: &[Work<'_>], hold: Hold) -> Result<Ticket, EngineError> {
        let last = self.flights.back();
        let set = last.map_or(Set::First, |flight| flight.set.other());
        let layout = Layout::new(&hold.network.program, batch, true);
        let started = self.start(&hold.network, batch, (&layout, set));
        if let Err(error) = started.and_then(|()| self.stream.mark(set)) {
            // What was started before a failure must not outlive what it reads and writes.
            let waited = self.stream.synchronize();
            if let (Some(flight), Err(error)) = (self.flights.front_mut(), waited) {
                flight.failed = Some(error);
            }
            return Err(error);
        }
        let ticket = Ticket(self.n_begun);
        self.n_begun += 1;
        self.flights.push_back(Flight {
            ticket,
            set,
            results: layout.results,
            hold,
            failed: None,
        });
        Ok(ticket)
    }

    /// Waits for the batch that was started first, but no longer than until `stop` says so: `false`. Where it fails,
    /// so do those behind it.
    pub(super) fn wait(
        &mut self,
        ticket: Ticket,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, EngineError> {
        let first = self.flights.front_mut();
        let flight = first
            .filter(|flight| flight.ticket == ticket)
            .ok_or_else(no_such_batch)?;
        let waited = match flight.failed.take() {
            Some(error) => Err(error),
            None => self.stream.wait(flight.set, stop),
        };
        if waited.is_err() {
            self.settle();
        }
        waited
    }

    /// The results of the batch that was started first, one after the other, and what it held; waits for it.
    pub(super) fn land(&mut self, ticket: Ticket) -> Result<(Hold, &[u8]), EngineError> {
        self.wait(ticket, &|| false)?;
        let flight = self.flights.pop_front().ok_or_else(no_such_batch)?;
        let staging = self.stream.staging(flight.set, 0)?;
        Ok((flight.hold, &staging[flight.results]))
    }

    /// Lets go of all batches that are under way; nobody gets their results.
    pub(super) fn settle(&mut self) {
        if !self.flights.is_empty() {
            // What fails now has nothing to tell: whatever comes next meets it.
            let _ = self.stream.synchronize();
            self.flights.clear();
        }
    }

    /// Waits for what is under way, before the memory that it uses moves.
    pub(super) fn hold_still(&mut self) -> Result<(), EngineError> {
        match self.flights.is_empty() {
            true => Ok(()),
            false => self.stream.synchronize(),
        }
    }
}
