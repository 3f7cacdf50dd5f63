//! What each tenant does, for the page's table.

use std::collections::BTreeMap;

use lipsync_serving::telemetry::{Book, ModelFigures, Outcome};
use serde::Serialize;

use crate::tenants::Tenants;

/// One tenant since the start. Without tenants there is one row, of everybody.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct TenantRow {
    tenant_id: String,
    /// Calls and sessions under way.
    inflight: u64,
    /// Unary calls that have ended.
    requests: u64,
    /// Sessions that have ended.
    sessions: u64,
    /// Frames of both.
    frames: u64,
    /// Calls and sessions that were refused.
    refused: u64,
    /// Calls and sessions that failed by the server's fault.
    failed: u64,
}

/// Those of the configuration, and those of whom something is counted, by id.
pub(super) fn rows(known: &Tenants, book: &Book) -> Vec<TenantRow> {
    let ids = known.list().iter().map(|tenant| tenant.id.as_str());
    let mut rows: BTreeMap<Box<str>, TenantRow> =
        ids.map(|id| (id.into(), TenantRow::default())).collect();
    for ([id], figures) in book.tenants() {
        rows.entry(id).or_default().inflight = figures.inflight.get();
    }
    for ([_model, id], figures) in book.models() {
        rows.entry(id).or_default().add(&figures);
    }
    let named = rows.into_iter().map(|(id, row)| TenantRow {
        tenant_id: id.into(),
        ..row
    });
    named.collect()
}

impl TenantRow {
    /// What it did with one model.
    fn add(&mut self, figures: &ModelFigures) {
        self.frames += figures.frames.get() + figures.sessions.stats().frames;
        for (ended, of) in [
            (figures.requests(), &mut self.requests),
            (figures.lives(), &mut self.sessions),
        ] {
            for (outcome, times) in ended {
                *of += times.count();
                match outcome {
                    Outcome::Refused => self.refused += times.count(),
                    Outcome::Failed => self.failed += times.count(),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lipsync_core::TenantId;
    use lipsync_serving::telemetry::Tally;

    use super::*;

    #[test]
    fn a_tenant_is_the_sum_of_its_models() {
        let book = Book::default();
        let tenant = TenantId::new("a");
        let _under_way = book.begin(&tenant);
        for outcome in [Outcome::Ok, Outcome::Failed, Outcome::Refused] {
            book.end_request(&tenant, &Tally::default(), outcome, Duration::ZERO);
        }
        book.end_session(&tenant, &Tally::default(), Outcome::Refused, Duration::ZERO);
        let row = TenantRow {
            tenant_id: "a".into(),
            inflight: 1,
            requests: 3,
            sessions: 1,
            frames: 0,
            refused: 2,
            failed: 1,
        };
        assert_eq!(rows(&Tenants::default(), &book), [row]);
    }
}
