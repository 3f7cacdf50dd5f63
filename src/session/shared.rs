//! State that the two halves of a session share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::ledger::Ledger;
use crate::v1::StreamCompositeRequest;

/// The account, the way to the connection, and the bell that the receiving half rings when there may be room.
#[derive(Debug)]
pub(super) struct Shared {
    ledger: Mutex<Ledger>,
    outgoing: Mutex<Outgoing>,
    room: Notify,
}

/// The way to the connection.
#[derive(Debug, Default)]
struct Outgoing {
    /// `None` while there is no connection, and after the end.
    sender: Option<mpsc::Sender<StreamCompositeRequest>>,
    /// There is nothing more to say: a connection that comes later is told so.
    is_finished: bool,
}

impl Shared {
    pub(super) fn new(ledger: Ledger, sender: mpsc::Sender<StreamCompositeRequest>) -> Self {
        Self {
            ledger: Mutex::new(ledger),
            outgoing: Mutex::new(Outgoing {
                sender: Some(sender),
                is_finished: false,
            }),
            room: Notify::new(),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every change leaves the account whole, so that a panic elsewhere does not spoil it.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where messages go now, if they go anywhere.
    pub(super) fn sender(&self) -> Option<mpsc::Sender<StreamCompositeRequest>> {
        self.outgoing().sender.clone()
    }

    /// There is no connection for now.
    pub(super) fn disconnect(&self) {
        self.outgoing().sender = None;
    }

    /// Messages go here from now on, unless there are none any more.
    pub(super) fn connect(&self, sender: mpsc::Sender<StreamCompositeRequest>) {
        let mut outgoing = self.outgoing();
        if !outgoing.is_finished {
            outgoing.sender = Some(sender);
        }
        drop(outgoing);
        self.announce_room();
    }

    /// There is nothing more to say.
    pub(super) fn finish(&self) {
        *self.outgoing() = Outgoing {
            sender: None,
            is_finished: true,
        };
    }

    pub(super) fn is_finished(&self) -> bool {
        self.outgoing().is_finished
    }

    /// Wakes the one sender, if it waits for room or for a connection.
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
        self.disconnect();
        self.announce_room();
    }
}
