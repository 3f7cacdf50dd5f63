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
    caller::Caller,
    peer::Peer,
};

use super::web_frames::WebFrames;
use crate::transport::tapped::{Tap, too_much};

/// So many are not worth counting: a head of a request, a chunk of speech.
const FREE_BYTES: usize = 64 << 10;

/// Bytes that came over a connection since its last message.
#[derive(Clone)]
pub(super) struct Inflow {
    uploads: Uploads,
    state: Arc<Mutex<State>>,
}

struct State {
    /// Whose bytes they are.
    caller: Caller,
    n_bytes: usize,
    /// As many at most.
    limit: usize,
    /// Taken when there are many.
    upload: Option<Upload>,
    head: HeadEnd,
    /// Once it is a WebSocket.
    frames: Option<WebFrames>,
}

/// Looks for the end of the last head of a request.
#[derive(Default)]
struct HeadEnd {
    /// Bytes of the empty line that have come.
    n_matched: usize,
    /// Bytes since.
    n_after: usize,
}

impl HeadEnd {
    const LINE: [u8; 4] = *b"\r\n\r\n";

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.n_after = self.n_after.saturating_add(1);
            // What does not fit may be the beginning of another one.
            self.n_matched = if byte == Self::LINE[self.n_matched] {
                self.n_matched + 1
            } else {
                usize::from(byte == Self::LINE[0])
            };
            if self.n_matched == Self::LINE.len() {
                *self = Self::default();
            }
        }
    }
}

/// Something came after the head of a request before it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSoon;

impl Inflow {
    pub(super) fn new(uploads: Uploads, peer: Peer) -> Self {
        Self {
            uploads,
            state: Arc::new(Mutex::new(State {
                caller: Caller::at(peer),
                n_bytes: 0,
                limit: usize::MAX,
                upload: None,
                head: HeadEnd::default(),
                frames: None,
            })),
        }
    }

    /// From now on they count for this caller's tenant, too.
    pub(super) fn belongs_to(&self, caller: &Caller) {
        self.lock().caller = caller.clone();
    }

    /// From now on it is a WebSocket, whose messages have so many bytes at most. What comes of one that is not whole is
    /// at most twice as much, with the heads of its frames: frames that carry nothing do not go on for ever.
    ///
    /// # Errors
    /// [`TooSoon`]: where frames begin is not known.
    pub(super) fn upgrade(&self, message_bytes: usize) -> Result<(), TooSoon> {
        let mut state = self.lock();
        if state.head.n_after > 0 {
            return Err(TooSoon);
        }
        state.limit = message_bytes.saturating_mul(2).saturating_add(FREE_BYTES);
        state.frames = Some(WebFrames::new());
        Ok(())
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

    /// Whether there is room for these.
    fn takes(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(frames) = &mut state.frames {
            if frames.are_too_many(bytes) {
                return false;
            }
        } else {
            state.head.take(bytes);
        }
        state.n_bytes = state.n_bytes.saturating_add(bytes.len());
        if state.n_bytes <= FREE_BYTES {
            return true;
        }
        if state.n_bytes > state.limit {
            return false;
        }
        if state.upload.is_none() {
            state.upload = self.uploads.admit(&state.caller);
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
        if self.takes(bytes) {
            return Ok(());
        }
        Err(too_much(
            "no room for a message that does not end, or too many small frames",
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lipsync_core::TenantId;
    use lipsync_serving::{
        admission::{Admission, Limits},
        phase::Phase,
        rights::Rights,
    };
    use tokio::sync::watch;

    use super::*;

    const MIB: usize = 1 << 20;

    fn inflow(admission: &Admission, n: u32) -> (Inflow, Peer) {
        let peer = Peer::new(Ipv4Addr::from_bits(n).into());
        (Inflow::new(admission.uploads().clone(), peer), peer)
    }

    /// However many addresses it comes from.
    #[tokio::test(start_paused = true)]
    async fn half_messages_count_for_the_tenant_that_sends_them() {
        let limits = Limits {
            queue_capacity: 1,
            n_workers: 1,
            max_sessions: 1,
            max_upload_bytes: 10 * MIB,
            max_unsent_bytes: MIB,
            peer_share_percent: 100,
            tenant_share_percent: 50,
        };
        for (tenants, second) in [(["a", "a"], false), (["a", "b"], true)] {
            let (_phase, seen) = watch::channel(Phase::Serving);
            let admission = Admission::new(limits, seen);
            let mut inflows = Vec::new();
            for (tenant, n) in tenants.iter().zip(1..) {
                let (inflow, peer) = inflow(&admission, n);
                inflow.belongs_to(&Caller {
                    tenant: TenantId::new(tenant),
                    rights: Arc::new(Rights {
                        is_one_of_many: true,
                        ..Rights::default()
                    }),
                    ..Caller::at(peer)
                });
                inflows.push(inflow);
            }
            let half = vec![0; 4 * MIB];
            let taken: Vec<_> = inflows.iter_mut().map(|i| i.read(&half).is_ok()).collect();
            assert_eq!(taken, [true, second], "{tenants:?}");
        }
    }

    #[test]
    fn the_end_of_a_head_is_found_however_it_comes() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\r\n\r\n";
        for n_after in [0, 1, 5] {
            let sent = [&head[..], &vec![b'\r'; n_after]].concat();
            for cut in 1..sent.len() {
                let mut end = HeadEnd::default();
                sent.chunks(cut).for_each(|piece| end.take(piece));
                assert_eq!(end.n_after, n_after);
            }
        }
    }
}
