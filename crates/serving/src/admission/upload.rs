//! Room for messages on their way in: one pool of bytes for all of them.

use std::sync::{Arc, OnceLock};

use lipsync_core::TenantId;
use tokio::time::Instant;

use super::quota::{OverQuota, Quota};
use crate::{
    caller::Caller,
    gate::{Gate, Lack, Ticket},
};

/// A call on its way in counts as at least this many bytes: its stream, its task and its headers.
pub(super) const UPLOAD_BYTES: usize = 16 << 10;
/// What has run out where there is no room for an upload.
pub const TOO_MANY_UPLOADS: &str = "too many bytes of uploads";
/// Room is taken in steps of this many bytes, as memory is.
const UPLOAD_STEP_BYTES: usize = 64 << 10;

/// Room for a message that is on its way in, until the call that it belongs to is answered.
#[derive(Debug)]
pub struct Upload {
    ticket: Ticket,
    /// Whose quota it was where it could not grow, if it was a quota.
    over_quota: OnceLock<OverQuota>,
    caller: Option<(TenantId, usize)>,
}

/// Room for all uploads.
#[derive(Debug, Clone)]
pub struct Uploads(pub(super) Arc<Gate>);

impl Uploads {
    /// Room for one of somebody, if there is any. As long as nobody knows whose it is, the peer alone counts.
    pub fn admit(&self, caller: &Caller) -> Option<Upload> {
        let party = Quota::WAITING.party(caller);
        let ticket = self.0.take(party, UPLOAD_BYTES).ok()?;
        Some(Upload::of(ticket, None))
    }
}

impl Upload {
    pub(super) fn of(ticket: Ticket, caller: Option<(TenantId, usize)>) -> Self {
        Self {
            ticket,
            over_quota: OnceLock::new(),
            caller,
        }
    }

    /// Grows it to this many bytes; `false` if there is no room.
    pub fn holds(&self, n_bytes: usize) -> bool {
        let n_bytes = if n_bytes > UPLOAD_BYTES {
            n_bytes.next_multiple_of(UPLOAD_STEP_BYTES)
        } else {
            UPLOAD_BYTES
        };
        match self.ticket.resize(n_bytes) {
            Ok(()) => true,
            Err(lack) => {
                if let (Lack::Quota, Some((tenant, limit))) = (lack, &self.caller) {
                    self.over_quota.get_or_init(|| OverQuota {
                        tenant: tenant.clone(),
                        limit: *limit,
                    });
                }
                false
            }
        }
    }

    /// The quota because of which it could not grow, if it was one.
    pub fn over_quota(&self) -> Option<OverQuota> {
        self.over_quota.get().cloned()
    }

    /// Says whether it only waits from now on: for its client, or for a model to be loaded. Then it gives way to
    /// others where there is no room.
    pub fn waits(&self, waits: bool) {
        self.ticket.set_waiting(waits.then(Instant::now));
    }

    /// Returns when it has given way.
    pub async fn withdrawn(&self) {
        self.ticket.withdrawn().await;
    }

    /// Whether it has given way.
    pub fn is_withdrawn(&self) -> bool {
        self.ticket.is_withdrawn()
    }

    /// The bytes of all uploads together.
    pub fn limit(&self) -> usize {
        self.ticket.limit()
    }

    /// Waits for something that is not the server's own work: others go first where there is no room.
    pub(crate) async fn waiting<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.waits(true);
        let done = waiting.await;
        self.waits(false);
        done
    }
}
