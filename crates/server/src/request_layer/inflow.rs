//! The messages of a call that sends many: each is held back until it is whole.
//!
//! The same rules as for a single message ([`super::upload`]) hold for each, but nothing has to come between
//! two of them: how long a conversation may be silent is for the conversation to say.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use lipsync_serving::{admission::Upload, talk::Talk};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::body::Body;

use super::{
    elements::Shapes,
    message::{Fault, Incoming, Whole},
    upload::Pace,
};

/// A [`Fault`], or what the connection broke by.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Messages that are taken before others have a turn: small ones come by the thousand in one piece, and whoever takes
/// them may do so without ever having to wait.
const MESSAGES_A_TURN: u32 = 16;
/// A long message counts as so many: its samples or features are read as well.
const LONG_COUNTS: u32 = 4;
/// From so many bytes on a message is long. Each turn costs a switch between threads, which costs as much as some short
/// ones.
const LONG_BYTES: usize = 256;

/// What a message costs of its call's time. A thousand a second are speech in pieces of 10 ms at ten times its pace, and a
/// message of one sample costs as much to read and to put into its place as one of a second.
const MESSAGE_TIME: Duration = Duration::from_millis(1);

/// So much may come ahead of that time: a thousand messages.
const MESSAGES_AHEAD: Duration = Duration::from_secs(1);

/// A body whose messages come whole.
pub(super) struct Inflow {
    body: Body,
    /// Of a frame that held the end of one message and more.
    rest: Bytes,
    incoming: Incoming,
    whole: Whole,
    /// In this turn.
    n_taken: u32,
    rate: Rate,
    late: Late,
    upload: Arc<Upload>,
    withdrawn: Pin<Box<dyn Future<Output = ()> + Send>>,
    shapes: Arc<Shapes>,
    path: String,
    fault: Arc<OnceLock<Fault>>,
}

/// What holds for the messages of a stream.
pub(super) struct Rules {
    pub(super) shapes: Arc<Shapes>,
    pub(super) path: String,
    /// Of each message, bytes.
    pub(super) limit: usize,
    /// Filled where one is at fault.
    pub(super) fault: Arc<OnceLock<Fault>>,
    /// What its sender says in all such calls; `None` where that is counted elsewhere.
    pub(super) talk: Option<Talk>,
}

/// The time in which more of a message must come.
struct Late {
    pace: Pace,
    timer: Pin<Box<Sleep>>,
    is_set: bool,
}

/// How many messages a second are taken; more wait.
struct Rate {
    /// When all that were taken would have come at the slowest rate that is never held up.
    paid_until: Instant,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer runs. It is asked no more often than that: each question costs a part of the task's turn.
    is_set: bool,
    /// See [`Rules`].
    talk: Option<Talk>,
}

impl Rate {
    fn begin(talk: Option<Talk>) -> Self {
        let now = Instant::now();
        Self {
            talk,
            paid_until: now,
            timer: Box::pin(sleep_until(now)),
            is_set: false,
        }
    }

    /// A message was taken.
    fn count(&mut self) {
        let now = Instant::now();
        self.paid_until = self.paid_until.max(now) + MESSAGE_TIME;
        let heard = self.talk.as_mut().map_or(Duration::ZERO, Talk::hears);
        let ahead = self
            .paid_until
            .saturating_duration_since(now + MESSAGES_AHEAD);
        let wait = ahead.max(heard);
        if !wait.is_zero() {
            self.timer.as_mut().reset(now + wait);
            self.is_set = true;
        }
    }

    /// Waits until the next message may be taken.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_set {
            ready!(self.timer.as_mut().poll(context));
            self.is_set = false;
        }
        Poll::Ready(())
    }
}

impl Inflow {
    pub(super) fn new(body: Body, upload: Upload, rules: Rules) -> Self {
        let Rules {
            shapes,
            path,
            limit,
            fault,
            talk,
        } = rules;
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
            n_taken: 0,
            rate: Rate::begin(talk),
            late: Late {
                timer: Box::pin(sleep_until(pace.until())),
                pace,
                is_set: false,
            },
            upload,
            withdrawn: Box::pin(async move { watched.withdrawn().await }),
            shapes,
            path,
            fault,
        }
    }

    /// Takes what has come of one message.
    fn take(&mut self) -> Result<(), Fault> {
        let n_before = self.rest.len();
        let is_first = !self.incoming.is_begun();
        let is_whole = self.incoming.take(&mut self.rest)?;
        if is_whole {
            let is_long = self.incoming.n_bytes() >= LONG_BYTES;
            self.whole = self.incoming.finish(&self.shapes, &self.path)?;
            self.late.is_set = false;
            self.n_taken += if is_long { LONG_COUNTS } else { 1 };
            self.rate.count();
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
            Err(Fault::no_room(&self.upload))
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
            if self.n_taken >= MESSAGES_A_TURN {
                self.n_taken = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.rest.is_empty() {
                if self.rate.poll(context).is_pending() {
                    self.n_taken = 0;
                    return Poll::Pending;
                }
                if let Err(fault) = self.take() {
                    return Poll::Ready(Some(Err(fault.into())));
                }
                continue;
            }
            if self.withdrawn.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(Fault::no_room(&self.upload).into())));
            }
            let frame = match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.n_taken = 0;
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
        let polled = self.poll(context);
        if let Poll::Ready(Some(Err(error))) = &polled
            && let Some(fault) = error.downcast_ref::<Fault>()
        {
            // The first one ends it.
            let _ = self.fault.set(fault.clone());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, path::Path};

    use lipsync_serving::{admission::Admission, caller::Caller, phase::Phase};
    use tokio::{
        sync::{mpsc, watch},
        time::advance,
    };
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::{Config, request_layer::upload::WINDOW};

    type Sender = mpsc::Sender<Result<Bytes, tonic::Status>>;

    fn inflow() -> (Sender, Inflow, Admission) {
        let admission = admission();
        let (sender, inflow) = inflow_of(&admission, None);
        (sender, inflow, admission)
    }

    fn admission() -> Admission {
        let config = Config::parse("", Path::new("c"), []).unwrap();
        let (_phase, seen) = watch::channel(Phase::Serving);
        Admission::new(config.admission(), seen)
    }

    fn inflow_of(admission: &Admission, talk: Option<Talk>) -> (Sender, Inflow) {
        let (sender, pieces) = mpsc::channel(8);
        let body = Body::new(axum::body::Body::from_stream(ReceiverStream::new(pieces)));
        let rules = Rules {
            shapes: Shapes::of_contract(),
            path: "/lipsync.v1.LipSync/StreamComposite".into(),
            limit: 1 << 20,
            fault: Arc::default(),
            talk,
        };
        let upload = admission.admit_upload(&Caller::default()).unwrap();
        (sender, Inflow::new(body, upload, rules))
    }

    async fn next(inflow: &mut Inflow) -> Option<Result<Bytes, Fault>> {
        let frame = poll_fn(|context| inflow.poll(context)).await?;
        let fault = |error: BoxError| error.downcast_ref().cloned().unwrap();
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(fault))
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_messages_may_come_at_once_and_a_thousand_a_second() {
        let (sender, mut inflow, _admission) = inflow();
        let message = [0, 0, 0, 0, 2, 0x78, 0];
        let begun = Instant::now();
        for _ in 0..3 {
            sender.try_send(Ok(message.repeat(1000).into())).unwrap();
        }
        let mut times = Vec::new();
        // Head and body of each come one after the other.
        while times.len() < 6000 {
            next(&mut inflow).await.unwrap().unwrap();
            times.push(begun.elapsed().as_millis());
        }
        assert_eq!(times[..2000], [0; 2000]);
        assert_eq!((times[3999], times[5999]), (999, 1999));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_one_address_that_follow_each_other_share_a_rate() {
        let (admission, begun) = (admission(), Instant::now());
        let message = [0, 0, 0, 0, 2, 0x78, 0];
        // Each sends less than it may at once; all of them half as much again as one second allows.
        for _ in 0..30 {
            let talk = admission.talk(&Caller::default(), true);
            let (sender, mut inflow) = inflow_of(&admission, Some(talk));
            sender.try_send(Ok(message.repeat(999).into())).unwrap();
            drop(sender);
            while let Some(piece) = next(&mut inflow).await {
                piece.unwrap();
            }
        }
        let took = begun.elapsed().as_millis();
        assert!((450..650).contains(&took), "{took} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_messages_is_allowed_and_inside_one_is_not() {
        let (sender, mut inflow, admission) = inflow();
        let message = Bytes::from_static(&[0, 0, 0, 0, 2, 0x78, 0, 0, 0, 0]);
        sender.send(Ok(message)).await.unwrap();
        let mut whole = Vec::new();
        while whole.len() < 7 {
            whole.extend(next(&mut inflow).await.unwrap().unwrap());
        }
        assert_eq!(whole, [0, 0, 0, 0, 2, 0x78, 0]);
        // Three bytes of the next one came with it.
        let begun = Instant::now();
        assert_eq!(next(&mut inflow).await, Some(Err(Fault::TooSlow)));
        assert_eq!(begun.elapsed(), WINDOW);

        let (sender, mut inflow, _admission) = self::inflow();
        let waiting = tokio::spawn(async move { next(&mut inflow).await });
        advance(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished());
        drop(sender);
        assert_eq!(waiting.await.unwrap(), None);
        assert!(admission.n_upload_bytes() > 0, "the first is still there");
    }

    #[tokio::test]
    async fn many_messages_in_one_piece_leave_turns_to_others() {
        let (sender, mut inflow, _admission) = inflow();
        let n = 10 * MESSAGES_A_TURN;
        let tiny = [0, 0, 0, 0, 2, 0x78, 0].repeat(usize::try_from(n).unwrap());
        sender.send(Ok(tiny.into())).await.unwrap();
        drop(sender);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut n_turns = 0;
        loop {
            match inflow.poll(&mut context) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(_)) => {}
                Poll::Pending => n_turns += 1,
            }
        }
        assert_eq!(n_turns, n / MESSAGES_A_TURN);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_message_is_charged_and_the_end_of_it_is_no_end() {
        let (sender, mut inflow, admission) = inflow();
        let head = [&[0, 0, 8, 0, 0][..], &[0; 200_000]].concat();
        sender.send(Ok(head.into())).await.unwrap();
        drop(sender);
        assert_eq!(next(&mut inflow).await, Some(Err(Fault::Malformed)));
        assert!(admission.n_upload_bytes() >= 200_000);
        drop(inflow);
        assert_eq!(admission.n_upload_bytes(), 0);
    }
}
