//! What one call or session comes to.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use lipsync_core::{
    ModelId,
    saturate::{micros, u64_of},
};
use lipsync_registry::{ErrorClass, RegistryError};
use lipsync_session::{SessionCounters, SessionStats};
use lipsync_telemetry::{Counter, Gauge};

use super::{
    outcome::Outcome,
    passage::{Passage, Spent, Witness},
};
use crate::error::ServeError;

/// Filled in on a call's way, and read at its end.
#[derive(Debug, Default)]
pub struct Tally {
    model: OnceLock<ModelId>,
    /// Frames made for a unary call.
    frames: Counter,
    /// The longest time that a job of it waited for a worker, µs.
    queue_us: Gauge,
    session: OnceLock<Arc<SessionCounters>>,
    error: OnceLock<(Outcome, Option<&'static str>)>,
    /// Of a call that is traced.
    witness: OnceLock<Arc<dyn Witness>>,
}

impl Tally {
    /// Pieces of its time are told to this witness from now on. The first one counts.
    pub fn watch(&self, witness: Arc<dyn Witness>) {
        let _ = self.witness.set(witness);
    }

    /// Who traces it, if anybody does.
    pub(crate) fn witness(&self) -> Option<&Arc<dyn Witness>> {
        self.witness.get()
    }

    /// A piece of its time that began at `began` is over.
    pub(crate) fn passed(&self, what: Spent, began: Instant, n_frames: usize) {
        self.spent(what, (began, Instant::now()), n_frames);
    }

    /// A model was loaded for it, in this time, until now.
    pub(crate) fn loaded(&self, time: Duration) {
        let began = Instant::now().checked_sub(time);
        if let Some(began) = began.filter(|_| !time.is_zero()) {
            self.passed(Spent::Load, began, 0);
        }
    }

    /// A piece of its time is over.
    pub(crate) fn spent(&self, what: Spent, (began, ended): (Instant, Instant), n_frames: usize) {
        if let Some(witness) = self.witness.get() {
            witness.saw(Passage {
                what,
                began,
                ended,
                n_frames,
            });
        }
    }

    /// It is about this model, if one of that name is configured: names that clients make up must not become labels.
    pub(crate) fn asked_for<T>(&self, id: &ModelId, found: &Result<T, RegistryError>) {
        let is_unknown = |error: &RegistryError| error.class() == ErrorClass::UnknownModel;
        if !found.as_ref().is_err_and(is_unknown) {
            // A call is about one model.
            let _ = self.model.set(id.clone());
        }
    }

    /// It is a session, which counts here.
    pub(crate) fn opened(&self, session: Arc<SessionCounters>) {
        let _ = self.session.set(session);
    }

    /// Frames were made for it.
    pub(crate) fn made(&self, n_frames: usize) {
        self.frames.add(u64_of(n_frames));
    }

    /// A job of it waited for a worker.
    pub(crate) fn queued(&self, time: Duration) {
        self.queue_us.raise_to(micros(time));
    }

    /// It ends with this error. The first one counts.
    pub fn fail(&self, error: &ServeError) {
        let _ = self.error.set((Outcome::of(error), error.refusal()));
    }

    /// The model, once it is known to be configured.
    #[must_use]
    pub fn model(&self) -> Option<&ModelId> {
        self.model.get()
    }

    /// Frames made for a unary call, or sent by a session.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.session()
            .map_or(self.frames.get(), |stats| stats.frames)
    }

    /// The longest time that a job of it waited for a worker, µs.
    #[must_use]
    pub fn queue_us(&self) -> u64 {
        self.queue_us.get()
    }

    /// What a session has counted; `None` for anything else.
    #[must_use]
    pub fn session(&self) -> Option<SessionStats> {
        self.session.get().map(|session| session.stats())
    }

    /// How it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Outcome> {
        self.error.get().map(|(outcome, _)| *outcome)
    }

    /// Why it was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        self.error.get()?.1
    }
}
