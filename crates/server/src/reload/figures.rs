//! How calls end.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use lipsync_core::saturate::micros;
use tonic::Code;

/// Counts the calls that make frames, and the sessions.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    n_served: AtomicU64,
    n_failed: AtomicU64,
    served_us: AtomicU64,
}

/// The same at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Calls that were answered as asked.
    pub(crate) n_served: u64,
    /// Calls that failed, and not by their client's fault.
    pub(crate) n_failed: u64,
    /// What the served ones took, all together.
    pub(crate) served_us: u64,
}

impl Outcomes {
    /// A call that ended so, after this time. One that its client is to blame for, or has left, does not count.
    pub(crate) fn call(&self, code: Code, took: Duration) {
        match code {
            Code::Ok => {
                self.n_served.fetch_add(1, Ordering::Relaxed);
                self.served_us.fetch_add(micros(took), Ordering::Relaxed);
            }
            code if is_fault(code) => {
                self.n_failed.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// A session that failed so. Those that end well say nothing of the time of a call.
    pub(crate) fn session(&self, code: Code) {
        if is_fault(code) {
            self.n_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            n_served: read(&self.n_served),
            n_failed: read(&self.n_failed),
            served_us: read(&self.served_us),
        }
    }
}

/// Whether the server, or its configuration, is to blame.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
