//! What a browser's session has sent of a message that is not whole yet.
//!
//! The WebSocket library collects a message by itself. So the bytes are counted where they come out of the socket,
//! and charged to the pool of uploads as those of gRPC are, until the message that they belong to is there.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use lipsync_core::sync::lock;
use lipsync_serving::{
    admission::{Upload, Uploads},
    peer::Peer,
};

use crate::transport::tapped::{Tap, too_much};

/// So many are not worth counting: a head of a request, a chunk of speech.
const FREE_BYTES: usize = 64 << 10;

/// Bytes that came over a connection since its last message.
#[derive(Clone)]
pub(super) struct Inflow {
    uploads: Uploads,
    peer: Peer,
    state: Arc<Mutex<State>>,
}

struct State {
    n_bytes: usize,
    /// As many at most.
    limit: usize,
    /// Taken when there are many.
    upload: Option<Upload>,
}

impl Inflow {
    pub(super) fn new(uploads: Uploads, peer: Peer) -> Self {
        Self {
            uploads,
            peer,
            state: Arc::new(Mutex::new(State {
                n_bytes: 0,
                limit: usize::MAX,
                upload: None,
            })),
        }
    }

    /// Messages have so many bytes at most. What comes of one that is not whole is at most twice as much, with the
    /// heads of its frames: frames that carry nothing do not go on for ever.
    pub(super) fn limit(&self, message_bytes: usize) {
        self.lock().limit = message_bytes.saturating_mul(2).saturating_add(FREE_BYTES);
    }

    /// A message is there: what came belongs to it.
    pub(super) fn whole(&self) {
        let mut state = self.lock();
        state.n_bytes = 0;
        state.upload = None;
    }

    /// Bytes of a message that is not whole.
    pub(super) fn n_bytes(&self) -> usize {
        self.lock().n_bytes
    }

    /// Whether there is room for this many more.
    fn takes(&self, n_bytes: usize) -> bool {
        let mut state = self.lock();
        state.n_bytes = state.n_bytes.saturating_add(n_bytes);
        if state.n_bytes <= FREE_BYTES {
            return true;
        }
        if state.n_bytes > state.limit {
            return false;
        }
        if state.upload.is_none() {
            state.upload = self.uploads.admit(self.peer);
        }
        let holds = |upload: &Upload| {
            upload.waits(true);
            upload.holds(state.n_bytes)
        };
        state.upload.as_ref().is_some_and(holds)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The connection ends where there is no room.
impl Tap for Inflow {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.takes(bytes.len()) {
            return Ok(());
        }
        Err(too_much("no room for a message that does not end"))
    }
}
