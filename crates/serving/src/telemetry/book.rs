//! The book itself.

use std::{sync::Arc, time::Duration};

use lipsync_core::{ModelId, Priority, TenantId};
use lipsync_session::SessionCounters;
use lipsync_telemetry::{
    Buckets, Counter, Gauge, Histogram, HistogramSnapshot, OTHER, Rise, Table,
};

use super::{models::ModelFigures, outcome::Outcome, stages::StageClocks, tally::Tally};

/// Pairs of a model and a tenant that have figures of their own. Each takes about 2 KiB, and as much again for each
/// outcome; what is beyond counts as `_other`.
const MAX_PAIRS: usize = 1024;
/// Tenants that have figures of their own.
const MAX_TENANTS: usize = 1024;
/// Reasons of refusals; the server knows about a dozen.
const MAX_REASONS: usize = 64;

/// What is counted about calls, sessions and frames since the start.
#[derive(Debug)]
pub struct Book {
    /// Where the time of frames goes.
    pub stages: StageClocks,
    /// All sessions.
    pub sessions: Arc<SessionCounters>,
    waits: [Histogram; Self::PRIORITIES.len()],
    models: Table<ModelFigures, 2>,
    tenants: Table<TenantFigures, 1>,
    refusals: Table<Counter, 1>,
}

/// Figures of one tenant.
#[derive(Debug, Default)]
pub struct TenantFigures {
    /// Its calls and sessions under way.
    pub inflight: Arc<Gauge>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            stages: StageClocks::default(),
            sessions: Arc::default(),
            waits: Self::PRIORITIES.map(|_| Histogram::new(&Buckets::LATENCY)),
            models: Table::new(MAX_PAIRS, ModelFigures::default),
            tenants: Table::new(MAX_TENANTS, TenantFigures::default),
            refusals: Table::new(MAX_REASONS, Counter::default),
        }
    }
}

impl Book {
    /// The levels of urgency, and their names in labels.
    const PRIORITIES: [(Priority, &str); 3] = [
        (Priority::Low, "low"),
        (Priority::Normal, "normal"),
        (Priority::High, "high"),
    ];

    /// A job waited for a worker.
    pub(crate) fn waited(&self, priority: Priority, time: Duration) {
        self.waits[priority as usize].observe_time(time);
    }

    /// Figures of a model that is configured, and of a tenant. They are looked up once a call.
    pub(crate) fn model(&self, id: &ModelId, tenant: &TenantId) -> Arc<ModelFigures> {
        self.models.row([id.as_str(), tenant.as_str()])
    }

    /// A call or a session of a tenant is under way until the answer is dropped.
    #[must_use]
    pub fn begin(&self, tenant: &TenantId) -> Rise {
        Rise::new(Arc::clone(&self.tenants.row([tenant.as_str()]).inflight))
    }

    /// A unary call has ended, after this time.
    pub fn end_request(&self, tenant: &TenantId, tally: &Tally, outcome: Outcome, time: Duration) {
        let figures = self.ended(tenant, tally);
        figures.request(outcome, time);
        figures.frames.add(tally.frames());
    }

    /// A session has ended, after this time.
    pub fn end_session(&self, tenant: &TenantId, tally: &Tally, outcome: Outcome, life: Duration) {
        self.ended(tenant, tally).session(outcome, life);
    }

    fn ended(&self, tenant: &TenantId, tally: &Tally) -> Arc<ModelFigures> {
        self.refuse(tally);
        let model = tally.model().map_or(OTHER, ModelId::as_str);
        self.models.row([model, tenant.as_str()])
    }

    /// Counts a refusal, if the call was refused.
    pub fn refuse(&self, tally: &Tally) {
        if let Some(reason) = tally.refusal() {
            self.refusals.row([reason]).inc();
        }
    }

    /// Waits for a worker, by urgency.
    pub fn waits(&self) -> impl Iterator<Item = (&'static str, HistogramSnapshot)> {
        let waits = Self::PRIORITIES.iter().zip(&self.waits);
        waits.map(|((_, name), wait)| (*name, wait.snapshot()))
    }

    /// Figures by model and tenant.
    #[must_use]
    pub fn models(&self) -> Vec<([Box<str>; 2], Arc<ModelFigures>)> {
        self.models.rows()
    }

    /// Figures by tenant.
    #[must_use]
    pub fn tenants(&self) -> Vec<([Box<str>; 1], Arc<TenantFigures>)> {
        self.tenants.rows()
    }

    /// Refused calls by reason.
    #[must_use]
    pub fn refusals(&self) -> Vec<([Box<str>; 1], Arc<Counter>)> {
        self.refusals.rows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ServeError;

    #[test]
    fn levels_of_urgency_count_for_themselves() {
        let book = Book::default();
        book.waited(Priority::High, Duration::from_millis(1));
        let counts: Vec<_> = book
            .waits()
            .map(|(name, wait)| (name, wait.count()))
            .collect();
        assert_eq!(counts, [("low", 0), ("normal", 0), ("high", 1)]);
        for (place, (priority, _)) in Book::PRIORITIES.into_iter().enumerate() {
            assert_eq!(priority as usize, place);
        }
    }

    #[test]
    fn a_call_about_no_configured_model_counts_with_all_others() {
        let book = Book::default();
        let tenant = TenantId::default();
        let tally = Tally::default();
        tally.fail(&ServeError::Starting);
        book.end_request(&tenant, &tally, Outcome::Refused, Duration::ZERO);
        let models = book.models();
        let labels: Vec<_> = models.iter().map(|(labels, _)| labels.clone()).collect();
        assert_eq!(labels, [["_other".into(), "default".into()]]);
        let refusals = book.refusals();
        assert_eq!((&*refusals[0].0[0], refusals[0].1.get()), ("starting", 1));
    }
}
