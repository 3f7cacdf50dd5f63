//! A message that is on its way in, put together piece by piece before anything decodes it.
//!
//! What a peer claims (the five bytes before a message) takes no memory: only what came does, in segments that
//! are full but for the last, however small the pieces were that it came in.

use std::{
    collections::VecDeque,
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use lipsync_core::saturate::usize_of;
use lipsync_serving::{
    admission::{OverQuota, TOO_MANY_UPLOADS, Upload},
    error::{RETRY_AFTER, ServeError},
};
use tonic::Status;

use super::elements::{self, Shapes, TooMany};

/// What a message is kept in.
const SEGMENT_BYTES: usize = 64 << 10;
/// A flag and four bytes of length.
const PREFIX_BYTES: usize = 5;
/// Segments that the stack is given before others have a turn: it copies each.
const SEGMENTS_A_TURN: u32 = 8;

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It claims to be larger than it may be.
    #[error("a message is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It has too many fields or list elements.
    #[error("the message has more than {} fields or list elements", TooMany::LIMIT)]
    TooManyElements,
    /// It is none of the protocol.
    #[error("the message cannot be decoded")]
    Malformed,
    /// It says that it is compressed, in a call that names no compression.
    #[error("the message is flagged as compressed, but grpc-encoding names no compression")]
    Flag,
    /// It does not come.
    #[error("the message came too slowly")]
    TooSlow,
    /// There is no room for it.
    #[error("no memory for the message: all uploads together may take {limit} bytes")]
    NoRoom {
        /// `server.max_upload_mb`, in bytes.
        limit: usize,
    },
    /// Its tenant may not have more waiting.
    #[error("the message exceeds the bytes that its tenant may have waiting")]
    OverQuota(OverQuota),
}

impl Fault {
    /// What is said where an upload has given way, or cannot grow.
    pub(super) fn no_room(upload: &Upload) -> Self {
        let limit = upload.limit();
        let over_quota = upload.over_quota();
        over_quota.map_or(Self::NoRoom { limit }, Self::OverQuota)
    }
}

impl From<Fault> for ServeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge { limit } => Self::MessageTooLarge { limit },
            Fault::TooManyElements => Self::invalid("message", fault.to_string()),
            Fault::Malformed => Self::undecodable(),
            Fault::Flag => Self::CompressedFlag,
            Fault::TooSlow => Self::UploadTooSlow,
            Fault::NoRoom { limit } => Self::Overloaded {
                what: TOO_MANY_UPLOADS,
                limit,
                retry: RETRY_AFTER,
            },
            Fault::OverQuota(over) => over.into(),
        }
    }
}

/// A message that is being put together.
pub(super) struct Incoming {
    limit: usize,
    prefix: Vec<u8>,
    /// Known when the prefix is whole.
    n_expected: usize,
    segments: Vec<Vec<u8>>,
    n_bytes: usize,
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            prefix: Vec::new(),
            n_expected: 0,
            segments: Vec::new(),
            n_bytes: 0,
        }
    }

    /// Takes what belongs to this message from `data`; whether it is whole now.
    ///
    /// # Errors
    /// [`Fault::TooLarge`], [`Fault::Malformed`], [`Fault::Flag`].
    pub(super) fn take(&mut self, data: &mut Bytes) -> Result<bool, Fault> {
        if self.prefix.len() < PREFIX_BYTES {
            let n_missing = PREFIX_BYTES - self.prefix.len();
            let some = data.split_to(n_missing.min(data.len()));
            self.prefix.extend_from_slice(&some);
            let Ok([flag, length @ ..]) = <[u8; PREFIX_BYTES]>::try_from(&*self.prefix) else {
                return Ok(false);
            };
            match flag {
                0 => {}
                // Of a call that names a compression, no message is read.
                1 => return Err(Fault::Flag),
                _ => return Err(Fault::Malformed),
            }
            self.n_expected = usize_of(u32::from_be_bytes(length));
            if self.n_expected > self.limit {
                return Err(Fault::TooLarge { limit: self.limit });
            }
        }
        let n_missing = self.n_expected - self.n_bytes;
        let mut rest = data.split_to(n_missing.min(data.len()));
        self.n_bytes += rest.len();
        while !rest.is_empty() {
            match self.segments.last_mut() {
                Some(last) if last.len() < SEGMENT_BYTES => {
                    let room = SEGMENT_BYTES - last.len();
                    last.extend_from_slice(&rest.split_to(room.min(rest.len())));
                }
                _ => self.segments.push(Vec::new()),
            }
        }
        Ok(self.n_bytes == self.n_expected)
    }

    /// Whether anything of it has come.
    pub(super) fn is_begun(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// Bytes that have come.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Looks at a whole message and makes room for the next one.
    ///
    /// # Errors
    /// [`Fault::TooManyElements`].
    pub(super) fn finish(&mut self, shapes: &Shapes, path: &str) -> Result<Whole, Fault> {
        let message = mem::replace(self, Self::new(self.limit));
        if shapes.check(path, &*message.segments).is_err() {
            return Err(Fault::TooManyElements);
        }
        let prefix = [message.prefix].into_iter();
        let pieces = prefix.chain(message.segments).map(Bytes::from).collect();
        Ok(Whole { pieces, n_given: 0 })
    }
}

impl elements::Bytes for [Vec<u8>] {
    fn n_bytes(&self) -> usize {
        let n_full = self.len().saturating_sub(1);
        n_full * SEGMENT_BYTES + self.last().map_or(0, Vec::len)
    }

    fn byte(&self, at: usize) -> u8 {
        self[at / SEGMENT_BYTES][at % SEGMENT_BYTES]
    }
}

/// A whole message as it came, prefix included.
#[derive(Default)]
pub(super) struct Whole {
    pieces: VecDeque<Bytes>,
    n_given: u32,
}

impl Whole {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The next piece; pending now and then, so that a long message does not keep a thread.
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.n_given == SEGMENTS_A_TURN {
            self.n_given = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.n_given += 1;
        Poll::Ready(self.pieces.pop_front())
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_pieces = self.pieces.len();
        f.debug_struct("Whole")
            .field("n_pieces", &n_pieces)
            .finish()
    }
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.poll_piece(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const BACKGROUND: &str = "/lipsync.v1.LipSync/GetBackground";

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    fn pieces(mut whole: Whole) -> Vec<u8> {
        let mut context = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        loop {
            match whole.poll_piece(&mut context) {
                Poll::Pending => {}
                Poll::Ready(Some(piece)) => {
                    assert!(piece.len() <= SEGMENT_BYTES);
                    all.extend_from_slice(&piece);
                }
                Poll::Ready(None) => return all,
            }
        }
    }

    #[test]
    fn messages_come_out_as_they_came_in_however_they_were_cut() {
        let shapes = Shapes::of_contract();
        let long: Vec<u8> = (0..40 * SEGMENT_BYTES + 7)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        let long = [&[0x12_u8, 0][..], &long].concat();
        let sent = [framed(&[]), framed(&long), framed(b"\x0a\x01m")].concat();
        for cut in [1, 4, 5, 6, SEGMENT_BYTES - 5, 100_001, sent.len()] {
            let mut incoming = Incoming::new(long.len());
            let mut got = Vec::new();
            let mut n_messages = 0;
            for part in sent.chunks(cut) {
                let mut data = Bytes::copy_from_slice(part);
                while !data.is_empty() {
                    if incoming.take(&mut data).unwrap() {
                        n_messages += 1;
                        got.extend(pieces(incoming.finish(&shapes, BACKGROUND).unwrap()));
                        assert!(!incoming.is_begun());
                    }
                }
            }
            assert!(got == sent && n_messages == 3, "{cut}");
        }
    }

    #[test]
    fn what_is_claimed_takes_no_memory_and_too_much_is_refused_at_once() {
        let mut incoming = Incoming::new(50 << 20);
        let mut claim = Bytes::from_static(&[0, 3, 0, 0, 0, 1]);
        assert_eq!(incoming.take(&mut claim), Ok(false));
        assert_eq!((incoming.n_bytes(), incoming.segments.len()), (1, 1));
        assert!(incoming.segments[0].capacity() < 100);
        let mut incoming = Incoming::new(10);
        let mut claim = Bytes::from_static(&[0, 0, 0, 0, 11]);
        assert_eq!(
            incoming.take(&mut claim),
            Err(Fault::TooLarge { limit: 10 })
        );
        let mut claim = Bytes::from_static(&[7, 0, 0, 0, 1]);
        assert_eq!(Incoming::new(10).take(&mut claim), Err(Fault::Malformed));
        let mut claim = Bytes::from_static(&[1, 0, 0, 0, 1]);
        assert_eq!(Incoming::new(10).take(&mut claim), Err(Fault::Flag));
    }

    #[test]
    fn elements_are_counted_across_segments() {
        let shapes = Shapes::of_contract();
        let many = [0x78, 0].repeat(SEGMENT_BYTES);
        let mut data = Bytes::from(framed(&many));
        let mut incoming = Incoming::new(many.len());
        assert_eq!(incoming.take(&mut data), Ok(true));
        assert_eq!(elements::Bytes::n_bytes(&*incoming.segments), many.len());
        let refused = incoming.finish(&shapes, BACKGROUND);
        assert_eq!(refused.map(drop), Err(Fault::TooManyElements));
    }
}
