//! How calls and sessions have ended, as the book of figures says.

use lipsync_serving::telemetry::{Book, Outcome};

/// Of all models and tenants, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Unary calls that were answered with frames.
    pub(super) n_served: u64,
    /// Calls and sessions that failed, and not by their client's fault.
    pub(super) n_failed: u64,
    /// What the served ones took, all together.
    pub(super) served_us: u64,
}

impl Figures {
    /// What the book says now.
    pub(super) fn of(book: &Book) -> Self {
        let mut all = Self::default();
        for (_, figures) in book.models() {
            all.n_served += figures.answered.calls.get();
            all.served_us += figures.answered.total_us.get();
            // How long a session lasts says nothing of the configuration, but its end may.
            let ended = figures.requests().into_iter().chain(figures.lives());
            let failed = ended.filter(|(outcome, _)| is_fault(*outcome));
            all.n_failed += failed.map(|(_, times)| times.count()).sum::<u64>();
        }
        all
    }
}

/// Whether the server, or its configuration, may be to blame.
fn is_fault(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Refused | Outcome::TimedOut | Outcome::Failed => true,
        Outcome::Ok | Outcome::Invalid | Outcome::Cancelled => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lipsync_core::TenantId;
    use lipsync_serving::telemetry::Tally;

    use super::*;

    #[test]
    fn only_ends_that_the_server_may_be_to_blame_for_are_faults() {
        let (book, tenant, tally) = (Book::default(), TenantId::default(), Tally::default());
        for outcome in Outcome::ALL {
            book.end_request(&tenant, &tally, outcome, Duration::from_secs(1));
            book.end_session(&tenant, &tally, outcome, Duration::from_secs(1));
        }
        let expected = Figures {
            n_failed: 6,
            ..Figures::default()
        };
        assert_eq!(Figures::of(&book), expected);
    }
}
