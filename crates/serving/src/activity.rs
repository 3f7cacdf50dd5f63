//! Connections that are worth their place, because something goes on in them.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::gate::Ticket;
use lipsync_core::sync::lock;

/// Whether anything goes on in a connection that is worth a place.
///
/// Half a request is not: connections that are not busy are closed where others need their places.
#[derive(Debug, Clone)]
pub struct Activity {
    place: Arc<Ticket>,
    n_busy: Arc<Mutex<usize>>,
}

/// A connection is busy until the last of these is dropped.
#[derive(Debug)]
pub struct Busy(Activity);

impl Activity {
    /// Of a connection that has just begun, and does nothing yet.
    #[must_use]
    pub fn new(place: Arc<Ticket>) -> Self {
        place.set_waiting(Some(Instant::now()));
        Self {
            place,
            n_busy: Arc::default(),
        }
    }

    /// Something goes on from now on.
    #[must_use]
    pub fn begin(&self) -> Busy {
        self.change(|n_busy| n_busy + 1);
        Busy(self.clone())
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut n_busy = lock(&self.n_busy);
        *n_busy = change(*n_busy);
        // Under the lock, so that what is said last is true.
        self.place.set_waiting((*n_busy == 0).then(Instant::now));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|n_busy| n_busy.saturating_sub(1));
    }
}
