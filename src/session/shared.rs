//! State that the two halves of a session share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ledger::Ledger;

/// The account, and the bell that the receiving half rings when there may be room.
#[derive(Debug)]
pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    room: Notify,
}

impl Shared {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger: Mutex::new(ledger),
            room: Notify::new(),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every change leaves the account whole, so that a panic elsewhere does not spoil it.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the one sender, if it waits for room.
    pub(super) fn announce_room(&self) {
        self.room.notify_one();
    }

    /// Waits for the next announcement, or takes a pending one.
    pub(super) async fn room_announced(&self) {
        self.room.notified().await;
    }

    /// Nothing more will come back: wakes a waiting sender.
    pub(super) fn end(&self) {
        self.ledger().set_over();
        self.announce_room();
    }
}
