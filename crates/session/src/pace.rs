//! The clock of a session that is paced in real time: when each frame is due.
//!
//! Pure arithmetic on the times that it is given: tests run a day of it in a moment.
//!
//! Audio that stalls in the middle of a segment moves the clock, and the clock *owes* that time: later
//! frames follow each other a tenth faster until it is back where it would be without the stall. It
//! gives back only what audio that lies in wait makes up for: what came in the last second would
//! also have been in time for a clock moved forward so far ([`Needs`]). So a speaker who has paused, or
//! sends a packet now and then, is not hurried into the next stall.

use lipsync_core::Fps;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A paced frame leaves so long after it could: what may go wrong meanwhile is not seen.
pub const FRAME_BUFFER: Duration = Duration::from_millis(40);
/// Who says nothing for longer has paused, and nothing is owed. Never more than this is.
const LONGEST_STALL: Duration = Duration::from_secs(2);
/// What the audio of a frame has to be there ahead of its time: at least, and at most.
const AHEAD: (Duration, Duration) = (FRAME_BUFFER, Duration::from_millis(120));
/// The part of an interval that is given back.
const HURRY: u32 = 10;
/// How long audio is watched before time is given back, s: usually, and where it stalls again and again.
const PATIENCE_S: (u64, u64) = (1, 16);
/// Stalls less than this apart are seen as belonging together, s.
const PEACE_S: u64 = 60;

/// Frames are numbered as they leave, from 0. Frame `n` is due `(n - a) / fps` after frame `a`, the last
/// one at which the clock was set; each time is computed from there, so that nothing adds up.
///
/// Five events move it: [`start`](Self::start), [`go_on`](Self::go_on), [`hold`](Self::hold) and
/// [`bridge`](Self::bridge) when a frame is made, [`sent`](Self::sent) when one leaves.
#[derive(Debug)]
pub(super) struct Pacer {
    fps: Fps,
    clock: Clock,
    /// The frame at which the clock was last set, and its time; `None` while it is stopped.
    anchor: Option<(u64, Instant)>,
    /// Given back since the anchor: all is due so much earlier.
    returned: Duration,
    needs: Needs,
}

/// How the clock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// No frame has a time.
    Stopped,
    /// Frames follow each other at their rate, and nothing is owed.
    Running,
    /// In a stall, which has cost `lost` so far; `owed` is left of stalls before it.
    Held { lost: Duration, owed: Duration },
    /// After stalls: `owed` is still to be given back.
    CatchingUp { owed: Duration },
}

impl Clock {
    /// That of a session that has begun.
    fn with(lost: Duration, owed: Duration) -> Self {
        if !lost.is_zero() {
            Self::Held { lost, owed }
        } else if !owed.is_zero() {
            Self::CatchingUp { owed }
        } else {
            Self::Running
        }
    }

    /// What the stall under way has cost.
    fn lost(self) -> Duration {
        match self {
            Self::Held { lost, .. } => lost,
            Self::Stopped | Self::Running | Self::CatchingUp { .. } => Duration::ZERO,
        }
    }

    /// What is still to be given back of stalls that are over.
    fn owed(self) -> Duration {
        match self {
            Self::Held { owed, .. } | Self::CatchingUp { owed } => owed,
            Self::Stopped | Self::Running => Duration::ZERO,
        }
    }
}

impl Pacer {
    /// A clock that is stopped.
    pub(super) fn new(fps: Fps) -> Self {
        Self {
            fps,
            clock: Clock::Stopped,
            anchor: None,
            returned: Duration::ZERO,
            needs: Needs::new(fps),
        }
    }

    /// When frame `n` is due; `None` while the clock is stopped.
    pub(super) fn due(&self, n: u64) -> Option<Instant> {
        let (first, at) = self.anchor?;
        let at = at.checked_sub(self.returned).unwrap_or(at);
        Some(match n.checked_sub(first) {
            Some(later) => at + self.span(later),
            None => at.checked_sub(self.span(first - n)).unwrap_or(at),
        })
    }

    /// Frame `n` begins anew at `at`, or when it is due if that is later. Nothing is owed.
    ///
    /// `heard` is since when its audio was there, if it is the first one of what is said.
    pub(super) fn start(&mut self, n: u64, at: Instant, heard: Option<Instant>) {
        self.set(n, at);
        self.clock = Clock::Running;
        self.needs = Needs::new(self.fps);
        self.expect(n, heard);
    }

    /// Frame `n` is one of a segment and its audio came in time: if there was a stall, it is over.
    ///
    /// `heard` is since when its audio was there, if it is the first one of its segment.
    pub(super) fn go_on(&mut self, n: u64, heard: Option<Instant>) {
        self.expect(n, heard);
        let Clock::Held { lost, owed } = self.clock else {
            return;
        };
        let owed = if lost > LONGEST_STALL {
            Duration::ZERO
        } else {
            (owed + lost).min(LONGEST_STALL)
        };
        self.clock = Clock::with(Duration::ZERO, owed);
        self.needs.stalled(n);
    }

    /// Frame `n` waits until `at`, because its audio came late: so the stall is over.
    pub(super) fn hold(&mut self, n: u64, at: Instant) {
        self.stall(n, at, Duration::ZERO);
        self.go_on(n, None);
    }

    /// Frame `n`, to which no audio belongs, takes a place in the middle of a segment, at `at`.
    pub(super) fn bridge(&mut self, n: u64, at: Instant) {
        self.stall(n, at, self.span(1));
    }

    /// Frame `n`, whose audio was there from `heard` on, leaves in time: the next one may come sooner.
    pub(super) fn sent(&mut self, n: u64, heard: Instant) {
        let owed = self.clock.owed();
        let Some(due) = self.due(n).filter(|_| !owed.is_zero()) else {
            return;
        };
        let needed_at = due.checked_sub(owed).unwrap_or(due);
        let need = (heard + self.needs.ahead).saturating_duration_since(needed_at);
        let may_return = owed.saturating_sub(self.needs.seen(n, need));
        let step = may_return.min(self.span(1) / HURRY);
        self.clock = Clock::with(self.clock.lost(), owed - step);
        self.returned += step;
    }

    /// The audio of all frames has to be as far ahead of its time as that of frame `n`, the first one.
    fn expect(&mut self, n: u64, heard: Option<Instant>) {
        let Some(heard) = heard else { return };
        let due = self.due(n).unwrap_or(heard);
        let ahead = due.saturating_duration_since(heard);
        self.needs.ahead = ahead.clamp(AHEAD.0, AHEAD.1);
    }

    /// Frame `n` leaves at `at` instead of its time, and what comes after it `more` later still.
    fn stall(&mut self, n: u64, at: Instant, more: Duration) {
        let late = at.saturating_duration_since(self.due(n).unwrap_or(at));
        self.set(n, at);
        self.clock = Clock::with(self.clock.lost() + late + more, self.clock.owed());
    }

    fn set(&mut self, n: u64, at: Instant) {
        if self.due(n).is_none_or(|due| due < at) {
            self.anchor = Some((n, at));
            self.returned = Duration::ZERO;
        }
    }

    /// How long `n_frames` frames are shown.
    pub(super) fn span(&self, n_frames: u64) -> Duration {
        self.fps.span(n_frames)
    }
}

/// How far behind a clock without stalls the audio of the last frames came: the most of it has to stay owed.
#[derive(Debug)]
struct Needs {
    /// Numbers and needs of frames in the window, each need smaller than the one before it.
    falling: VecDeque<(u64, Duration)>,
    /// Frames.
    window: u64,
    fps: u64,
    /// The frame after the last stall.
    last_stall: Option<u64>,
    /// Audio has to be there so long before its frame is due.
    ahead: Duration,
}

impl Needs {
    fn new(fps: Fps) -> Self {
        Self {
            falling: VecDeque::new(),
            window: PATIENCE_S.0 * u64::from(fps),
            fps: fps.into(),
            last_stall: None,
            ahead: AHEAD.0,
        }
    }

    /// Audio that has stalled before frame `n`, and not long before that, is watched for longer.
    fn stalled(&mut self, n: u64) {
        let last = self.last_stall.replace(n);
        self.window = if last.is_some_and(|last| n < last + PEACE_S * self.fps) {
            (2 * self.window).min(PATIENCE_S.1 * self.fps)
        } else {
            PATIENCE_S.0 * self.fps
        };
        self.falling.clear();
    }

    /// Takes the need of frame `n` and gives the most of those in the window.
    fn seen(&mut self, n: u64, need: Duration) -> Duration {
        while self.falling.back().is_some_and(|last| last.1 <= need) {
            self.falling.pop_back();
        }
        self.falling.push_back((n, need));
        while self
            .falling
            .front()
            .is_some_and(|first| first.0 + self.window <= n)
        {
            self.falling.pop_front();
        }
        self.falling.front().map_or(need, |first| first.1)
    }
}

#[cfg(test)]
mod tests;
