//! The messages of a call that sends many: each is held back until it is whole.
//!
//! The same rules as for a single message ([`super::upload`]) hold for each, but nothing has to come between
//! two of them: how long a conversation may be silent is for the conversation to say.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tokio::time::{Sleep, sleep_until};
use tonic::body::Body;

use super::{
    elements::Shapes,
    message::{Fault, Incoming, Whole},
    upload::Pace,
};
use crate::admission::Upload;

/// A [`Fault`], or what the connection broke by.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose messages come whole.
pub(super) struct Inflow {
    body: Body,
    /// Of a frame that held the end of one message and more.
    rest: Bytes,
    incoming: Incoming,
    whole: Whole,
    late: Late,
    upload: Arc<Upload>,
    withdrawn: Pin<Box<dyn Future<Output = ()> + Send>>,
    shapes: Arc<Shapes>,
    path: String,
}

/// The time in which more of a message must come.
struct Late {
    pace: Pace,
    timer: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Inflow {
    pub(super) fn new(
        body: Body,
        upload: Upload,
        shapes: Arc<Shapes>,
        path: &str,
        limit: usize,
    ) -> Self {
        let upload = Arc::new(upload);
        // Until its first message is there, it only waits.
        upload.waits(true);
        let watched = Arc::clone(&upload);
        let pace = Pace::begin();
        Self {
            body,
            rest: Bytes::new(),
            incoming: Incoming::new(limit),
            whole: Whole::default(),
            late: Late {
                timer: Box::pin(sleep_until(pace.until())),
                pace,
                is_set: false,
            },
            upload,
            withdrawn: Box::pin(async move { watched.withdrawn().await }),
            shapes,
            path: path.to_owned(),
        }
    }

    /// Takes what has come of one message.
    fn take(&mut self) -> Result<(), Fault> {
        let n_before = self.rest.len();
        let is_first = !self.incoming.is_begun();
        let is_whole = self.incoming.take(&mut self.rest)?;
        if is_whole {
            self.whole = self.incoming.finish(&self.shapes, &self.path)?;
            self.late.is_set = false;
            return Ok(());
        }
        if is_first {
            self.late.pace = Pace::begin();
        }
        self.late.pace.count(n_before);
        self.late.timer.as_mut().reset(self.late.pace.until());
        self.late.is_set = true;
        self.upload.waits(true);
        if self.upload.holds(self.incoming.n_bytes()) {
            Ok(())
        } else {
            Err(self.upload.no_room())
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if !self.whole.is_empty() {
                let piece = ready!(self.whole.poll_piece(context));
                if self.whole.is_empty() {
                    self.upload.waits(false);
                    // Less than it has always fits, unless it is withdrawn: that is seen below.
                    let _ = self.upload.holds(0);
                }
                return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
            }
            if !self.rest.is_empty() {
                if let Err(fault) = self.take() {
                    return Poll::Ready(Some(Err(fault.into())));
                }
                continue;
            }
            if self.withdrawn.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(self.upload.no_room().into())));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if self.late.is_set {
                        ready!(self.late.timer.as_mut().poll(context));
                        return Poll::Ready(Some(Err(Fault::TooSlow.into())));
                    }
                    return Poll::Pending;
                }
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    // Trailers of a request say nothing.
                    Err(_trailers) => {}
                },
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken.into()))),
                None if self.incoming.is_begun() => {
                    return Poll::Ready(Some(Err(Fault::Malformed.into())));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl http_body::Body for Inflow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.poll(context)
    }
}
