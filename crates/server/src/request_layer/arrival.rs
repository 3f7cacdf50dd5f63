//! What is known of a call before anything of it is looked at: where it came from, and what it holds.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::Extensions;
use tokio::time::Instant;

use super::Fault;
use crate::{admission::Upload, gate::Ticket, wire::headers::RequestHeaders};

/// See the module. An extension of every request.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Who calls, first of all.
    pub(crate) headers: RequestHeaders,
    /// Room for its message.
    pub(crate) upload: Option<Arc<Upload>>,
    /// Why a stream of messages broke off: the stack's router keeps only the text of an error.
    fault: Arc<OnceLock<Fault>>,
    activity: Option<Activity>,
}

/// Whether anything goes on in a connection that is worth a place.
///
/// Half a request is not: connections that are not busy are closed where others need their places.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    place: Arc<Ticket>,
    n_busy: Arc<Mutex<usize>>,
}

/// A connection is busy until the last of these is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Arrival {
    /// Of a call whose connection is known.
    pub(crate) fn new(headers: RequestHeaders, activity: Option<Activity>) -> Self {
        Self {
            headers,
            upload: None,
            fault: Arc::default(),
            activity,
        }
    }

    /// What the layers before have found out.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let before = extensions.get().cloned();
        // Without layers before, nothing is known: tests of single parts.
        before.unwrap_or_else(|| Self::new(RequestHeaders::default(), None))
    }

    /// From now on something goes on in its connection.
    pub(crate) fn busy(&self) -> Option<Busy> {
        self.activity.as_ref().map(Activity::begin)
    }

    /// What goes on in its connection.
    pub(crate) fn activity(&self) -> Option<Activity> {
        self.activity.clone()
    }

    /// Where the reader of a stream's messages says why it breaks off.
    pub(super) fn fault_cell(&self) -> Arc<OnceLock<Fault>> {
        Arc::clone(&self.fault)
    }

    /// Why the stream of messages broke off, where that was not the connection.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.get().cloned()
    }
}

impl Activity {
    /// Of a connection that has just begun, and does nothing yet.
    pub(crate) fn new(place: Arc<Ticket>) -> Self {
        place.set_waiting(Some(Instant::now()));
        Self {
            place,
            n_busy: Arc::default(),
        }
    }

    /// Something goes on from now on.
    pub(crate) fn begin(&self) -> Busy {
        self.change(|n_busy| n_busy + 1);
        Busy(self.clone())
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let mut n_busy = self.n_busy.lock().unwrap_or_else(PoisonError::into_inner);
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
