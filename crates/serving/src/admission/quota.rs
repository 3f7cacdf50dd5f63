//! What one tenant may have of the places and bytes that tenants share, and how it is told.

use lipsync_core::TenantId;

use crate::{
    caller::Caller,
    error::{RETRY_AFTER, ServeError},
    gate::Party,
    rights::Quotas,
};

/// A quota of bytes that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverQuota {
    pub(super) tenant: TenantId,
    pub(super) limit: usize,
}

impl From<OverQuota> for ServeError {
    fn from(over: OverQuota) -> Self {
        Self::OverQuota {
            tenant: over.tenant,
            quota: MAX_WAITING,
            limit: mebibytes(over.limit),
            retry: Some(RETRY_AFTER),
        }
    }
}

fn mebibytes(n_bytes: usize) -> String {
    format!("{} MiB", n_bytes >> 20)
}

/// Keys of quotas.
const MAX_SESSIONS: &str = "max_sessions";
const MAX_REQUESTS: &str = "max_requests";
const MAX_WAITING: &str = "max_waiting_mb";
pub(super) const FRAMES: &str = "frames_per_second";

/// Sessions in memory at most, where this many may be open.
pub(super) fn max_unread_sessions(max_sessions: usize) -> usize {
    max_sessions.saturating_mul(2)
}

/// Which of a tenant's quotas holds for a gate.
#[derive(Clone, Copy)]
pub(super) struct Quota {
    pub(super) key: &'static str,
    pub(super) limit: fn(&Quotas) -> Option<usize>,
    pub(super) in_words: fn(usize) -> String,
}

impl Quota {
    pub(super) const NONE: Self = Self {
        key: "",
        limit: |_| None,
        in_words: |limit| limit.to_string(),
    };
    pub(super) const REQUESTS: Self = Self {
        key: MAX_REQUESTS,
        limit: |quotas| quotas.max_requests,
        ..Self::NONE
    };
    pub(super) const SESSIONS: Self = Self {
        key: MAX_SESSIONS,
        limit: |quotas| quotas.max_sessions,
        ..Self::NONE
    };
    /// Sessions and those that have failed while nobody reads them: twice as many, as for all tenants together.
    pub(super) const UNREAD: Self = Self {
        limit: |quotas| Some(max_unread_sessions(quotas.max_sessions?)),
        ..Self::SESSIONS
    };
    pub(super) const WAITING: Self = Self {
        key: MAX_WAITING,
        limit: |quotas| quotas.max_waiting_bytes,
        in_words: mebibytes,
    };

    pub(super) fn party(self, caller: &Caller) -> Party {
        Party {
            peer: caller.peer,
            tenant: caller.rights.is_one_of_many.then(|| caller.tenant.clone()),
            quota: (self.limit)(&caller.rights.quotas),
        }
    }
}
