//! Bodies that hold their room among the answers that are not read until they are written.

use std::sync::Arc;

use axum::body::Bytes;
use lipsync_serving::gate::Ticket;
use tokio::sync::oneshot;

use crate::transport::Seat;

/// Bytes that are not written yet.
struct Unwritten {
    data: Vec<u8>,
    /// Closed when they are.
    _open: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Unwritten {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// The body of an answer whose bytes have this room. Where others need the room meanwhile, and the client does not read,
/// its connection ends.
pub(super) fn holding(room: Ticket, data: Vec<u8>, seat: &Seat) -> Bytes {
    let (open, written) = oneshot::channel();
    let place = Arc::clone(&seat.place);
    room.set_waiting(Some(tokio::time::Instant::now()));
    tokio::spawn(async move {
        tokio::select! {
            _closed = written => {}
            () = room.withdrawn() => place.give_up(),
        }
    });
    Bytes::from_owner(Unwritten { data, _open: open })
}
