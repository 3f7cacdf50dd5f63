//! One session as a state machine: what waits, what is to be made next, what may leave and when.
//!
//! A piece of audio is an entry of the inbox, then slots of the plan, then frames of the outbox. This
//! decides what is worked on next, keeps the clock, and lets an interruption take away what it is about
//! from all three at once. It never waits and never looks at a clock: the time is an argument, so that
//! tests play hours in a moment. The lock and the waiting are its user's.

mod choice;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Notice, Outgoing, SessionCounters, SessionFault, Warning,
    batch::Batch,
    inbox::{Came, Inbox, Pushed, Work},
    lag::Lag,
    late::LateFrames,
    outbox::{self, Made, Outbox},
    pace::{FRAME_BUFFER, Pacer},
    plan::{Plan, Planned, Restart, Slot},
    position::Position,
};
use lipsync_core::{Fps, saturate::u64_of};

/// What was agreed on at the opening.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Frames per second.
    pub fps: Fps,
    /// Where the session begins: at a place on the avatar's timeline, or where another session has ended.
    pub start: Position,
    /// Frames leave at their time.
    pub is_realtime: bool,
    /// Silence shows the face at rest.
    pub shows_idle: bool,
    /// Finished frames that may wait.
    pub max_queued_frames: usize,
    /// Frames of a batch.
    pub max_batch_frames: usize,
    /// A session that is behind for so long, and no nearer then, ends.
    pub max_lag: Option<Duration>,
}

/// The state of a session, with coded pictures `P`, which it only carries, and errors `E`, which end it.
#[derive(Debug)]
pub struct Session<P, E> {
    rules: Rules,
    inbox: Inbox<E>,
    plan: Plan,
    outbox: Outbox<P, E>,
    /// In sessions that are paced.
    pacer: Option<Pacer>,
    /// The segment that the last frame made of audio belongs to, while more of it is to come.
    speaking: Option<u64>,
    /// When the face comes to rest if the audio of the segment in which the session resumes does not come.
    rest_from: Instant,
    /// An interruption has cut the session in this segment: the clock waits for what comes after it.
    cut: Option<u64>,
    /// How long the first batch of a segment takes, roughly.
    first_batch_time: Duration,
    late: LateFrames,
    lag: Lag,
    counters: Arc<SessionCounters>,
}

/// What the producer should do.
#[derive(Debug)]
pub enum Next {
    /// Make slots of this.
    Listen(Work),
    /// Make these frames.
    Make(Batch),
    /// Nothing until something changes, or until this time.
    Wait(Option<Instant>),
    /// Everything is done.
    Exhausted,
}

/// What can be sent.
#[derive(Debug)]
pub enum Popped<P, E> {
    /// To be sent now.
    Message(Outgoing<P>),
    /// Nothing until something changes, or until this time.
    Wait(Option<Instant>),
    /// The session ends, well or with a reason.
    End(Option<E>),
}

/// Audio that is late by less than this is waited for before the face comes to rest.
const HOLD: Duration = Duration::from_millis(200);
/// The same at the beginning of a session that resumes inside a segment: its client must first learn what to send.
const RESUME_HOLD: Duration = Duration::from_millis(500);
/// Idle frames are made so long before their time: they take a few milliseconds.
const IDLE_AHEAD: Duration = Duration::from_millis(25);
/// The first guess at the time of a first batch, and the most that idle frames bridge.
const FIRST_BATCH_TIME: (Duration, Duration) =
    (Duration::from_millis(30), Duration::from_millis(80));

impl<P, E: From<SessionFault>> Session<P, E> {
    /// A session that begins at `now`.
    pub fn new(
        rules: Rules,
        inbox: Inbox<E>,
        counters: Arc<SessionCounters>,
        now: Instant,
    ) -> Self {
        let start = rules.start;
        let speaking = start.speaking();
        let mut pacer = rules.is_realtime.then(|| Pacer::new(rules.fps));
        if let Some(pacer) = &mut pacer
            && rules.shows_idle
            && speaking.is_none()
        {
            pacer.start(start.n_frames, now, None);
        }
        counters.opened();
        Self {
            rules,
            inbox,
            plan: Plan::default(),
            outbox: Outbox::new(rules.fps, &start),
            pacer,
            speaking,
            rest_from: now + RESUME_HOLD,
            cut: None,
            first_batch_time: FIRST_BATCH_TIME.0,
            late: LateFrames::default(),
            lag: Lag::default(),
            counters,
        }
    }

    /// Queues a notice.
    pub fn notify(&mut self, notice: Notice) {
        self.outbox.notify(notice);
    }

    /// Takes audio; what is not wanted any more is answered with a warning.
    ///
    /// # Errors
    /// What the intake refuses, [`SessionFault::Invalid`] for a segment id that is out of order,
    /// [`SessionFault::TooMuchAudio`] and [`SessionFault::TooManyMessages`] to a client that is too fast.
    pub fn push_audio(&mut self, segment_id: u64, data: &[u8], now: Instant) -> Result<(), E> {
        let pushed = self.inbox.push_audio(segment_id, data, now);
        self.pass_warnings();
        let why = match pushed? {
            Pushed::Queued => return Ok(()),
            Pushed::Cleared => "was cleared",
            Pushed::TooLate => "came after the end of the session was announced",
        };
        self.outbox.warn(Warning {
            code: "audio_discarded",
            text: format!("segment {segment_id} {why}; its audio is dropped"),
        });
        Ok(())
    }

    /// Ends a segment.
    ///
    /// # Errors
    /// [`SessionFault::TooManyMessages`] where too many segments wait.
    pub fn end_segment(&mut self, segment_id: u64, now: Instant) -> Result<(), E> {
        let ended = self.inbox.end_segment(segment_id, now);
        self.pass_warnings();
        Ok(ended?)
    }

    /// Queues what the client should know about its audio.
    pub fn warn(&mut self, warning: Warning) {
        self.outbox.warn(warning);
    }

    fn pass_warnings(&mut self) {
        for warning in self.inbox.take_warnings() {
            self.outbox.warn(warning);
        }
    }

    /// Interrupts: one segment, or everything.
    ///
    /// # Errors
    /// [`SessionFault::TooManyMessages`] to a client that clears for ever.
    pub fn clear(&mut self, segment_id: Option<u64>) -> Result<(), E> {
        self.counters.cleared();
        let was_queued = self.inbox.clear(segment_id)?;
        let inbox = &self.inbox;
        let is_cleared = |id| id != 0 && inbox.is_cleared(id);
        let was_planned = self.plan.clear(is_cleared);
        let was_made = self.outbox.has_frame(is_cleared);
        let displaced = self.outbox.clear(segment_id, is_cleared)?;
        let was_speaking = self.speaking.take_if(|id| is_cleared(*id)).is_some();
        self.plan.put_back(displaced);
        // One that drops nothing must not make the clock forget what it owes.
        if was_queued || was_planned || was_made || was_speaking {
            self.cut_at(segment_id.unwrap_or(self.inbox.newest()));
        }
        Ok(())
    }

    /// What follows this segment is made now, so that it may come after its time.
    fn cut_at(&mut self, segment_id: u64) {
        match self.plan.first_slot_after(segment_id) {
            Some(slot) => slot.restart = Some(Restart::Begin),
            None => self.cut = Some(segment_id),
        }
    }

    fn is_planned(&self) -> bool {
        !self.plan.is_empty()
    }

    /// Nothing more comes in: the open segment ends.
    pub fn finish_input(&mut self, now: Instant) {
        self.inbox.finish(now);
        self.pass_warnings();
    }

    /// The server takes nothing more: what was sent is finished, then the session ends with `error`.
    pub fn leave(&mut self, warning: Warning, error: E, now: Instant) {
        self.outbox.warn(warning);
        self.finish_input(now);
        self.outbox.set_farewell(error);
    }

    /// Ends the session: after what is queued, or at once with an error.
    pub fn end(&mut self, error: Option<E>) {
        if error.is_some() {
            self.plan = Plan::default();
            self.inbox.clear_all();
        }
        self.outbox.finish(error);
    }

    /// Whether the session's end is settled.
    pub fn is_ending(&self) -> bool {
        self.outbox.is_ending()
    }

    /// Whether frames of the audio that came have not left, so that there is more than words for the client.
    pub fn owes_frames(&self) -> bool {
        let is_made = self.outbox.owes_frames();
        is_made || !self.is_ending() && (self.plan.n_slots() > 0 || !self.inbox.is_exhausted())
    }

    /// What to work on now.
    pub fn next_task(&mut self, now: Instant) -> Next {
        if self.outbox.is_ending() {
            return Next::Exhausted;
        }
        while self.outbox.has_room(0, usize::MAX)
            && let Some(end) = self.plan.take_end()
        {
            self.speaking = None;
            self.outbox.push_end(end);
        }
        let n_slots = self.plan.n_slots();
        let listens = n_slots < self.batch_frames();
        let ready_at = self.inbox.ready_at().filter(|_| listens);
        if ready_at.is_some_and(|at| at <= now)
            && let Some(work) = self.inbox.pop()
        {
            return Next::Listen(work);
        }
        if !self.is_planned() && self.inbox.is_exhausted() {
            return Next::Exhausted;
        }
        match self.frame_task(n_slots, now) {
            Next::Wait(until) => Next::Wait(until.into_iter().chain(ready_at).min()),
            next => next,
        }
    }

    /// The next frames, where there is room for them.
    fn frame_task(&mut self, n_slots: usize, now: Instant) -> Next {
        let n_frames = if n_slots == 0 { 1 } else { self.batch_frames() };
        if !self.outbox.has_room(n_frames, self.rules.max_queued_frames) {
            return Next::Wait(None);
        }
        if n_slots == 0 {
            return self.idle_task(now);
        }
        Next::Make(self.next_batch(now))
    }

    /// Between segments: the next idle frame shortly before its time.
    fn idle_task(&self, now: Instant) -> Next {
        let Some(pacer) = self.pacer.as_ref().filter(|_| self.rules.shows_idle) else {
            return Next::Wait(None);
        };
        let cursor = self.outbox.cursor();
        // The clock of a session that resumes inside a segment starts with the first frame of that.
        let begin = match pacer.due(self.outbox.next_number()) {
            None => self.rest_from,
            Some(due) if self.speaking.is_some() && !cursor.look.is_idle => due + HOLD,
            Some(due) => due.checked_sub(IDLE_AHEAD).unwrap_or(now),
        };
        if begin > now {
            return Next::Wait(Some(begin));
        }
        Next::Make(Batch::idle(&cursor))
    }

    /// Takes what audio has become: slots in order, and the end of the segment.
    ///
    /// `came` is when that audio came.
    pub fn plan(&mut self, planned: Vec<Planned>, came: Came) {
        let n_planned = planned.len();
        for (n, mut planned) in planned.into_iter().enumerate() {
            let id = planned.segment_id();
            if self.inbox.is_cleared(id) {
                continue;
            }
            if let Planned::Frame(slot) = &mut planned {
                slot.heard = Some(came.part(n, n_planned));
                slot.restart = self.restart(slot, came.began);
            }
            self.plan.push(planned);
        }
    }

    /// Whether the clock has to wait for the next slot, whose audio came at `arrived`.
    fn restart(&mut self, slot: &Slot, arrived: Instant) -> Option<Restart> {
        let pacer = self.pacer.as_ref()?;
        // Of several late ones only the first moves the clock.
        if self.plan.restarts_clock() {
            return None;
        }
        let n_slots = u64_of(self.plan.n_slots());
        let due = pacer.due(self.outbox.next_number() + n_slots);
        let was_cut = self.cut.take_if(|cut| *cut < slot.segment_id);
        match due.filter(|_| was_cut.is_none()) {
            None => Some(Restart::Begin),
            Some(due) if due >= arrived => None,
            Some(_) if slot.n == 0 => Some(Restart::Begin),
            Some(_) => Some(Restart::Hold),
        }
    }

    /// Whether a batch is still what has to be made next.
    pub fn is_current(&self, batch: &Batch) -> bool {
        let cursor = self.outbox.cursor();
        let mut slots = self.plan.slots();
        !self.outbox.is_ending()
            && cursor.place == batch.place
            && batch.shots.iter().all(|shot| match &shot.slot {
                Some(made) => slots.next().is_some_and(|slot| slot.is(made)),
                None => true,
            })
    }

    /// Takes the frames of a batch into the outbox, unless they are not wanted there any more.
    pub fn commit(&mut self, batch: Batch, pictures: Vec<P>, began: Instant, now: Instant) {
        if !self.is_current(&batch) {
            return;
        }
        if batch.is_first() {
            let took = now.saturating_duration_since(began).min(FIRST_BATCH_TIME.1);
            self.first_batch_time = (self.first_batch_time * 3 + took) / 4;
        }
        let shots = batch.shots.into_iter().zip(pictures);
        for (place, (shot, picture)) in (batch.place..).zip(shots) {
            let n = self.outbox.next_number();
            match &shot.slot {
                Some(slot) => {
                    // The plan's own word: an interruption may have changed it meanwhile.
                    let restart = self.plan.take(slot).and_then(|slot| slot.restart);
                    self.keep_time(n, slot, restart, now);
                    self.speaking = Some(slot.segment_id);
                }
                None => self.idle_time(n, now),
            }
            if shot.kind == outbox::Kind::Skipped {
                self.late.skipped();
            }
            self.outbox.push_frame(Made {
                frame: shot.frame(place, self.rules.fps, picture),
                kind: shot.kind,
                look: shot.look(),
                slot: shot.slot,
            });
        }
    }

    /// The client has not asked for more for so long.
    pub fn was_unread(&mut self, unread: Duration) {
        self.lag.excuse(unread);
    }

    /// How late the next frame is, if that is hopeless.
    fn falls_behind(&mut self, now: Instant) -> Option<Duration> {
        let (pacer, limit) = (self.pacer.as_ref()?, self.rules.max_lag?);
        let is_waiting = self.outbox.next_is_frame()
            || (self.plan.slots().next().is_some() && !self.plan.restarts_clock());
        let due = pacer.due(self.outbox.n_sent()).filter(|_| is_waiting)?;
        let late = now.saturating_duration_since(due);
        self.lag.lasts(late, now, limit).then_some(late)
    }

    /// Sets the clock for a frame that is made of audio.
    fn keep_time(&mut self, n: u64, slot: &Slot, restart: Option<Restart>, now: Instant) {
        let Some(pacer) = &mut self.pacer else { return };
        let (at, heard) = (now + FRAME_BUFFER, slot.heard.unwrap_or(now));
        match restart {
            Some(Restart::Begin) => pacer.start(n, at, Some(heard)),
            Some(Restart::Hold) => pacer.hold(n, at),
            None => pacer.go_on(n, (slot.n == 0).then_some(heard)),
        }
    }

    /// Sets the clock for an idle frame. Nobody hears them: after a hold they do not hurry.
    fn idle_time(&mut self, n: u64, now: Instant) {
        let Some(pacer) = &mut self.pacer else { return };
        let due = pacer.due(n).filter(|&due| due + HOLD / 2 >= now);
        let at = due.unwrap_or(now);
        if self.speaking.is_some() {
            pacer.bridge(n, at);
        } else {
            pacer.start(n, at, None);
        }
    }

    /// The next message, if its time has come.
    pub fn pop(&mut self, now: Instant) -> Popped<P, E> {
        if let Some(warning) = self.late.warning(now) {
            self.outbox.warn(warning);
        }
        if let Some(late) = self.falls_behind(now) {
            self.counters.too_slow();
            self.end(Some(SessionFault::TooSlow { late }.into()));
        }
        let n = self.outbox.n_sent();
        let mut is_in_time = false;
        if let Some(pacer) = &mut self.pacer
            && self.outbox.next_is_frame()
        {
            match pacer.due(n) {
                Some(due) if due > now => return Popped::Wait(Some(due)),
                Some(due) if due + pacer.span(1) < now => {
                    self.late.late();
                    self.counters.late(now.saturating_duration_since(due));
                }
                Some(_) => is_in_time = true,
                None => pacer.start(n, now, None),
            }
        }
        match self.outbox.pop() {
            outbox::Popped::Notice(notice) => Popped::Message(Outgoing::Notice(notice)),
            outbox::Popped::Frame(frame, kind, heard) => {
                self.counters.sent(kind);
                if let (Some(pacer), Some(heard)) = (&mut self.pacer, heard.filter(|_| is_in_time))
                {
                    pacer.sent(n, heard);
                }
                Popped::Message(Outgoing::Frame(frame))
            }
            outbox::Popped::Empty => Popped::Wait(None),
            outbox::Popped::End(error) => Popped::End(error),
        }
    }
}
