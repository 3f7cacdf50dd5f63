//! What is known of a call before anything of it is looked at: where it came from, and what it holds.

use std::sync::{Arc, OnceLock};

use http::Extensions;
use lipsync_serving::{
    activity::{Activity, Busy},
    admission::Upload,
    due::Due,
};

use super::Fault;
use crate::wire::headers::RequestHeaders;

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
    due: Option<Arc<Due>>,
}

impl Arrival {
    /// Of a call whose connection is known.
    pub(crate) fn new(headers: RequestHeaders, activity: Option<Activity>) -> Self {
        Self {
            headers,
            upload: None,
            fault: Arc::default(),
            activity,
            due: None,
        }
    }

    /// Of a call that lasts: the drain waits for what it owes.
    pub(crate) fn owing(self, due: &Arc<Due>) -> Self {
        let due = Some(Arc::clone(due));
        Self { due, ..self }
    }

    /// What the drain waits for, in a call that lasts. Taken by whoever answers.
    pub(crate) fn take_due(&mut self) -> Arc<Due> {
        let due = self.due.take();
        due.unwrap_or_else(|| Arc::new(Due::new(None)))
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
