//! A session with a producer and a reader of its own, in virtual time.
//!
//! A byte of audio is one frame: 0 = silence. Making frames takes as long as a test says.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lipsync_core::Fps;

use super::super::{Batch, Next, Popped, Rules, Session};
use crate::{
    Notice, Outgoing, SegmentEnd, SessionFault,
    inbox::{Inbox, Work},
    plan::{Planned, Slot},
    position::Position,
};

pub(super) struct Stage {
    /// A picture is whether the network made it.
    pub(super) session: Session<bool, SessionFault>,
    start: Instant,
    now: Instant,
    /// What a batch takes, and each of its frames.
    pub(super) cost: (Duration, Duration),
    /// What a frame takes without the network.
    pub(super) idle_cost: Duration,
    /// Whether the client reads.
    pub(super) reads: bool,
    /// Frames that the network made.
    pub(super) n_network: usize,
    heard: VecDeque<(u64, u64)>,
    work: Option<(Batch, Instant, Instant)>,
    /// What was sent, and when, in ms.
    pub(super) sent: Vec<(u64, Outgoing<bool>)>,
    /// When the stream failed, in ms, and why.
    pub(super) failure: Option<(u64, String)>,
    stopped_reading: Option<Instant>,
}

/// What a test looks at in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at_ms: u64,
    pub(super) segment: u64,
    /// Its number in its segment; `None`: idle.
    pub(super) n: Option<u64>,
    pub(super) place: u64,
    pub(super) pts_us: u64,
    pub(super) generated: bool,
}

pub(super) fn rules() -> Rules {
    Rules {
        fps: Fps::at_least_1(25),
        start: Position::start(0, false),
        is_realtime: true,
        shows_idle: false,
        max_queued_frames: 8,
        max_batch_frames: 64,
        max_lag: Some(ms(10_000)),
    }
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Stage {
    pub(super) fn new(rules: Rules) -> Self {
        let start = Position::start(0, rules.shows_idle);
        Self::resuming(rules, start)
    }

    /// A session that goes on where another one has ended.
    pub(super) fn resuming(rules: Rules, position: Position) -> Self {
        let start = Instant::now();
        let rules = Rules {
            start: position,
            ..rules
        };
        let heard = position.segment.map(|s| (s.segment_id, s.n_frames));
        let inbox = Inbox::new(25, 3600 * 24);
        Self {
            session: Session::new(rules, inbox, Arc::default(), start),
            start,
            now: start,
            cost: (ms(5), ms(10)),
            idle_cost: ms(2),
            reads: true,
            n_network: 0,
            heard: heard.into_iter().collect(),
            work: None,
            sent: Vec::new(),
            failure: None,
            stopped_reading: None,
        }
    }

    /// Audio comes.
    pub(super) fn speak(&mut self, segment: u64, frames: &[u8]) {
        self.session.push_audio(segment, frames, self.now).unwrap();
    }

    pub(super) fn end(&mut self, segment: u64) {
        self.session.end_segment(segment, self.now).unwrap();
    }

    pub(super) fn clear(&mut self, segment: Option<u64>) {
        self.session.clear(segment).unwrap();
    }

    /// Plays on for so long.
    pub(super) fn play(&mut self, duration_ms: u64) {
        let until = self.now + ms(duration_ms);
        loop {
            let next = self.produce().min(self.read()).min(self.produce());
            if next > until {
                self.now = until;
                return;
            }
            self.now = next.max(self.now);
        }
    }

    /// Does what the producer can do now, and says when it can do more.
    fn produce(&mut self) -> Instant {
        loop {
            if let Some((batch, began, done)) = self.work.take() {
                if !self.session.is_current(&batch) {
                    continue;
                }
                if done > self.now {
                    self.work = Some((batch, began, done));
                    return done;
                }
                let pictures = vec![batch.needs_network(); batch.shots.len()];
                self.session.commit(batch, pictures, began, self.now);
            }
            match self.session.next_task(self.now) {
                Next::Listen(work) => self.listen(work),
                Next::Make(batch) => {
                    let n = u32::try_from(batch.shots.len()).unwrap();
                    let cost = if batch.needs_network() {
                        self.n_network += batch.shots.len();
                        self.cost.0 + self.cost.1 * n
                    } else {
                        self.idle_cost * n
                    };
                    self.work = Some((batch, self.now, self.now + cost));
                }
                Next::Wait(Some(until)) => return until,
                Next::Wait(None) => return self.far(),
                Next::Exhausted => {
                    self.session.end(None);
                    return self.far();
                }
            }
        }
    }

    fn listen(&mut self, work: Work) {
        match work {
            Work::Audio {
                segment_id,
                data,
                came,
            } => {
                if self.heard.back().is_none_or(|last| last.0 != segment_id) {
                    self.heard.push_back((segment_id, 0));
                }
                let n_heard = &mut self.heard.back_mut().unwrap().1;
                let slots = data.iter().map(|&byte| {
                    *n_heard += 1;
                    slot(segment_id, *n_heard - 1, byte)
                });
                let slots = slots.collect();
                self.session.plan(slots, came);
            }
            Work::End { segment_id, came } => {
                let n_frames = self.heard.back().map_or(0, |last| last.1);
                let end = SegmentEnd {
                    segment_id,
                    n_frames,
                };
                self.session.plan(vec![Planned::End(end)], came);
            }
        }
    }

    /// Sends what can leave now, and says when more can.
    fn read(&mut self) -> Instant {
        if !self.reads {
            self.stopped_reading.get_or_insert(self.now);
            return self.far();
        }
        if let Some(stopped) = self.stopped_reading.take() {
            self.session.was_unread(self.now - stopped);
        }
        loop {
            match self.session.pop(self.now) {
                Popped::Message(message) => self.sent.push((self.at_ms(), message)),
                Popped::Wait(Some(until)) => return until,
                Popped::End(Some(error)) => {
                    self.failure = Some((self.at_ms(), error.to_string()));
                    return self.far();
                }
                Popped::Wait(None) | Popped::End(None) => return self.far(),
            }
        }
    }

    fn at_ms(&self) -> u64 {
        u64::try_from((self.now - self.start).as_millis()).unwrap()
    }

    fn far(&self) -> Instant {
        self.now + Duration::from_secs(3600 * 48)
    }

    pub(super) fn frames(&self) -> Vec<Seen> {
        let frames = self
            .sent
            .iter()
            .filter_map(|(at_ms, message)| match message {
                Outgoing::Frame(frame) => Some(Seen {
                    at_ms: *at_ms,
                    segment: frame.segment_id,
                    n: frame.audio_time_us.map(|t| t / 40_000),
                    place: frame.place,
                    pts_us: frame.pts_us,
                    generated: frame.picture,
                }),
                _ => None,
            });
        frames.collect()
    }

    pub(super) fn warnings(&self) -> usize {
        let is_warning =
            |sent: &&(u64, Outgoing<bool>)| matches!(sent.1, Outgoing::Notice(Notice::Warning(_)));
        self.sent.iter().filter(is_warning).count()
    }
}

/// Every frame follows the one before it, in place and time.
pub(super) fn assert_contiguous(frames: &[Seen]) {
    for (n, frame) in (0..).zip(frames) {
        assert_eq!((frame.place, frame.pts_us), (n, n * 40_000), "frame {n}");
    }
}

fn slot(segment_id: u64, n: u64, byte: u8) -> Planned {
    let window = Arc::new([]);
    Planned::Frame(Slot::new(segment_id, n, window, byte != 0, Bytes::new()))
}
