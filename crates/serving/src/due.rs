//! What a call that lasts owes its client, as far as the end of the server waits for it.
//!
//! A drain waits for frames, however slowly they are read, within its grace. The rest, such as the answer to an
//! interruption or the word that a session ends, waits for its reader for `PATIENCE`: a client that reads has it by
//! then, and one that does not must not keep the server. Unary answers are not here: all of one is owed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lipsync_core::sync::lock;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{gate::Ticket, phase::Phase};

/// What is no frame is waited for this long, from when no frame is due any more.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a drain looks whether frames are due.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Due {
    /// The drain waits for it. Gone when the call is waited for no longer.
    ticket: Mutex<Option<Arc<Ticket>>>,
    /// Frames that have left, to be carried to the client.
    n_frames: AtomicU64,
    /// What lets go of the call. It ends with this, and not with the call's own task: what that has said may wait for its
    /// reader for longer.
    letting_go: Mutex<JoinSet<()>>,
}

impl Due {
    /// Of a call that the drain waits for because of this ticket.
    #[must_use]
    pub fn new(ticket: Option<Ticket>) -> Self {
        Self {
            ticket: Mutex::new(ticket.map(Arc::new)),
            n_frames: AtomicU64::new(0),
            letting_go: Mutex::default(),
        }
    }

    /// A frame leaves, in the message that is taken next.
    pub fn frame_leaves(&self) {
        self.n_frames.fetch_add(1, Ordering::Relaxed);
    }

    /// For whoever carries messages to the client: kept until those are there, where a frame has left since
    /// `n_carried` of them had.
    pub fn carried(&self, n_carried: &mut u64) -> Option<Arc<Ticket>> {
        let n_frames = self.n_frames.load(Ordering::Relaxed);
        let has_frame = std::mem::replace(n_carried, n_frames) != n_frames;
        lock(&self.ticket).as_ref().filter(|_| has_frame).cloned()
    }

    /// Has the drain wait for this call no longer, once the server drains and has waited long enough for what is no frame.
    /// `owes_frames`: there are some that have not left. `then` is called when nobody waits any more.
    pub fn let_go(
        self: &Arc<Self>,
        mut phase: watch::Receiver<Phase>,
        owes_frames: impl Fn() -> bool + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) {
        let due = Arc::downgrade(self);
        lock(&self.letting_go).spawn(async move {
            // The sender outlives every call; its loss would mean the end as well.
            drop(phase.wait_for(|phase| *phase == Phase::Draining).await);
            let mut since = Instant::now();
            while since.elapsed() < PATIENCE {
                sleep(LOOK_EVERY).await;
                if owes_frames() {
                    since = Instant::now();
                }
            }
            if let Some(due) = due.upgrade() {
                *lock(&due.ticket) = None;
            }
            then();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::admission::{Admission, Limits};

    fn gate() -> (Admission, watch::Sender<Phase>, Arc<Due>) {
        let (phase, seen) = watch::channel(Phase::Serving);
        let admission = Admission::new(Limits::ROOMY, seen);
        let due = Arc::new(Due::new(admission.answer()));
        (admission, phase, due)
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_frames_and_then_for_a_moment() {
        let (admission, phase, due) = gate();
        let owes = Arc::new(AtomicBool::new(true));
        let began = Instant::now();
        let frames = async {
            sleep(Duration::from_secs(5)).await;
            phase.send_replace(Phase::Draining);
            sleep(Duration::from_secs(20)).await;
            owes.store(false, Ordering::Relaxed);
        };
        let seen = Arc::clone(&owes);
        due.let_go(
            admission.phase(),
            move || seen.load(Ordering::Relaxed),
            || {},
        );
        tokio::join!(frames, admission.emptied());
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(25), "{took:?}");
        assert!(took <= Duration::from_secs(25) + PATIENCE + 2 * LOOK_EVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_on_its_way_is_waited_for_and_what_is_none_is_not() {
        let (admission, phase, due) = gate();
        let mut n_carried = 0;
        assert!(due.carried(&mut n_carried).is_none(), "no frame has left");
        due.frame_leaves();
        let frame = due.carried(&mut n_carried);
        assert!(frame.is_some());
        assert!(due.carried(&mut n_carried).is_none(), "it is carried once");
        phase.send_replace(Phase::Draining);
        due.let_go(admission.phase(), || false, || {});
        let minute = Duration::from_secs(60);
        let waited = tokio::time::timeout(minute, admission.emptied()).await;
        assert!(waited.is_err(), "the frame is not there yet");
        drop(frame);
        admission.emptied().await;
        due.frame_leaves();
        assert!(due.carried(&mut n_carried).is_none(), "it is let go");
    }
}
