//! The account of one session: audio sent, frames received. Pure bookkeeping: time is an argument.

use std::{collections::VecDeque, time::Duration};

use lipsync::{
    session::Event,
    v1::{Cleared, CompositedFrame, Pacing},
};
use prost::Message as _;

use crate::{
    check::{Expected, Fault},
    live::{DriftMeter, LiveEvent},
    profile::frames_time,
    segment::{Delivery, Segment},
    stats::{Outcome, Sample, SharedStats},
};

/// The measurement's destination and expectations.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Where samples go.
    pub stats: SharedStats,
    /// The expected frames.
    pub expected: Expected,
    /// Frames per second at which audio is spoken.
    pub fps: u32,
    /// Frames per second that the model makes.
    pub model_fps: u32,
    /// When frames leave the server.
    pub pacing: Pacing,
    /// With `REALTIME`: how long after a segment's first frame a player begins to show it.
    pub player_buffer: Duration,
    /// Whether frames also come between segments, so that all of them are neighbours.
    pub is_continuous: bool,
}

/// A segment under way.
#[derive(Debug)]
struct Speech {
    id: u64,
    times: Segment,
    n_chunks_sent: u64,
    n_received: u64,
    first_arrival: Option<Duration>,
    /// When the end of the run cut it off. Its last frames cannot be made before.
    cut_at: Option<Duration>,
}

impl Speech {
    fn ready_at(&self, n: u64) -> Duration {
        let ready = self.times.ready_at(n);
        let at_end = self.times.ready_at(self.times.n_frames);
        match self.cut_at {
            Some(cut) if ready >= at_end => cut.max(ready),
            _ => ready,
        }
    }

    fn due_at(&self, n: u64, terms: &Terms) -> Duration {
        if terms.pacing != Pacing::Realtime {
            return self.times.due_at(n);
        }
        let first = self.first_arrival.unwrap_or_else(|| self.ready_at(0));
        first + terms.player_buffer + frames_time(n, terms.fps)
    }
}

/// The account of one session.
#[derive(Debug)]
pub struct Conversation {
    terms: Terms,
    /// Segments whose end has not been announced, oldest first.
    speeches: VecDeque<Speech>,
    n_begun: u64,
    /// Position of the next frame on the timeline.
    next_index: u64,
    /// Unconfirmed interruptions, oldest first.
    clears: VecDeque<Duration>,
    /// The previous frame: its segment (0 for idle frames) and its arrival.
    last_frame: Option<(u64, Duration)>,
    drift: DriftMeter,
}

impl Conversation {
    /// The account of a new session.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            drift: DriftMeter::new(terms.fps),
            terms,
            speeches: VecDeque::new(),
            n_begun: 0,
            next_index: 0,
            clears: VecDeque::new(),
            last_frame: None,
        }
    }

    /// Begins a segment. Sessions number them from 1.
    pub fn begin(&mut self, times: Segment) {
        self.n_begun += 1;
        self.speeches.push_back(Speech {
            id: self.n_begun,
            times,
            n_chunks_sent: 0,
            n_received: 0,
            first_arrival: None,
            cut_at: None,
        });
    }

    /// Books the next chunk of the newest segment, with `n_bytes` of audio.
    pub fn chunk_sent(&mut self, n_bytes: usize) {
        let Some(speech) = self.speeches.back_mut() else {
            return;
        };
        let intended = speech.times.chunk_at(speech.n_chunks_sent);
        speech.n_chunks_sent += 1;
        let mut stats = self.terms.stats.lock();
        stats.record_upload(intended, n_bytes as u64);
    }

    /// Interrupts all segments at `at`. Only frames that were due by then can be missed.
    pub fn clear(&mut self, at: Duration) {
        self.clears.push_back(at);
        while let Some(speech) = self.speeches.pop_front() {
            let overdue = |n: &u64| speech.due_at(*n, &self.terms) < at;
            for n in (speech.n_received..speech.times.n_frames).take_while(overdue) {
                self.count_missing(&speech, n, at, Outcome::Unfinished);
            }
        }
    }

    /// Ends the run at `end`, and the current segment with it.
    pub fn cut(&mut self, end: Duration) {
        let is_whole = |s: &Speech| s.n_chunks_sent == s.times.n_chunks();
        let Some(speech) = self.speeches.back_mut().filter(|s| !is_whole(s)) else {
            return;
        };
        speech.times.n_frames = speech.n_chunks_sent * speech.times.chunk_frames;
        speech.cut_at = Some(end);
        if speech.times.n_frames == 0 {
            self.speeches.pop_back();
        }
    }

    /// Whether every frame of all segments has arrived.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.speeches.is_empty()
    }

    /// Position of the next frame on the timeline.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Books a message that arrived at `at`.
    pub fn receive(&mut self, event: &Event, at: Duration) {
        match event {
            Event::Frame(frame) => self.receive_frame(frame, at),
            Event::SegmentEnd(end) => {
                let place = self.speeches.iter().position(|s| s.id == end.segment_id);
                if let Some(speech) = place.and_then(|place| self.speeches.remove(place)) {
                    self.count_rest(&speech, at, Outcome::Invalid(Fault::Count));
                }
            }
            Event::Cleared(cleared) => self.receive_cleared(*cleared, at),
            Event::Resumed(_) => {
                self.terms.stats.lock().record_live(at, LiveEvent::Resumed);
                // The server has forgotten what they were about.
                self.clears.clear();
                // The frame after the gap is no neighbour.
                self.last_frame = None;
            }
            _ => {}
        }
    }

    /// Ends the account at `at`: counts the outstanding frames, and the drift.
    pub fn close(&mut self, at: Duration, outcome: Outcome) {
        while let Some(speech) = self.speeches.pop_front() {
            self.count_rest(&speech, at, outcome);
        }
        if let Some(drift) = self.drift.drift() {
            self.terms.stats.lock().live.drifts.push(drift);
        }
    }

    fn receive_cleared(&mut self, cleared: Cleared, at: Duration) {
        if let Some(asked) = self.clears.pop_front() {
            let time = LiveEvent::Cleared(at.saturating_sub(asked));
            self.terms.stats.lock().record_live(asked, time);
        }
        // The walk goes on after the last frame that was sent; some of those are dropped on the way.
        if let Some(last_pts_us) = cleared.last_pts_us {
            let n = u128::from(last_pts_us) * u128::from(self.terms.model_fps) + 500_000;
            self.next_index = u64::try_from(n / 1_000_000).map_or(u64::MAX, |n| n + 1);
        }
    }

    fn receive_frame(&mut self, frame: &CompositedFrame, at: Duration) {
        let index = self.next_index;
        self.next_index = frame.frame_index + 1;
        let checked = self.terms.expected.check_frame(frame, index);
        self.note_interval(frame, at);
        let Some(audio_time_us) = frame.audio_time_us else {
            let mut stats = self.terms.stats.lock();
            stats.record_live(at, LiveEvent::IdleFrame);
            if let Err(fault) = checked {
                drop(stats);
                self.count_unasked(at, fault);
            }
            return;
        };
        let place = self.speeches.iter().position(|s| s.id == frame.segment_id);
        let Some(speech) = place.and_then(|place| self.speeches.get_mut(place)) else {
            self.count_unasked(at, Fault::Order);
            return;
        };
        let n = speech.n_received;
        speech.n_received += 1;
        if n >= speech.times.n_frames {
            self.count_unasked(at, Fault::Count);
            return;
        }
        speech.first_arrival.get_or_insert(at);
        if speech.times.delivery == Delivery::Live {
            let spoken = speech.times.start + Duration::from_micros(audio_time_us);
            self.drift.note(spoken, at);
        }
        let ready = speech.ready_at(n);
        let mut stats = self.terms.stats.lock();
        stats.record(&Sample {
            intended: ready,
            sent: None,
            done: at,
            due: speech.due_at(n, &self.terms),
            n_frames: 1,
            bytes_up: 0,
            bytes_down: frame.encoded_len() as u64,
            outcome: checked.map_or_else(Outcome::Invalid, |()| Outcome::Frames),
        });
        if !frame.generated {
            stats.record_live(at, LiveEvent::SkippedFrame);
        }
        if n == 0 {
            stats.record_first_frame(speech.times.start, at);
            stats.record_live(ready, LiveEvent::FirstFrame(at.saturating_sub(ready)));
        }
    }

    /// Whether a viewer sees the frames in succession: those of a segment, or all.
    fn note_interval(&mut self, frame: &CompositedFrame, at: Duration) {
        let this = (frame.segment_id, at);
        let Some((segment_id, before)) = self.last_frame.replace(this) else {
            return;
        };
        if self.terms.is_continuous || segment_id == frame.segment_id {
            let interval = LiveEvent::Interval(at.saturating_sub(before));
            self.terms.stats.lock().record_live(before, interval);
        }
    }

    fn count_rest(&self, speech: &Speech, at: Duration, outcome: Outcome) {
        for n in speech.n_received..speech.times.n_frames {
            self.count_missing(speech, n, at, outcome);
        }
    }

    fn count_missing(&self, speech: &Speech, n: u64, at: Duration, outcome: Outcome) {
        let (ready, due) = (speech.ready_at(n), speech.due_at(n, &self.terms));
        self.count(ready, due, at, outcome);
    }

    fn count_unasked(&self, at: Duration, fault: Fault) {
        self.count(at, at, at, Outcome::Invalid(fault));
    }

    fn count(&self, intended: Duration, due: Duration, done: Duration, outcome: Outcome) {
        self.terms.stats.lock().record(&Sample {
            intended,
            sent: None,
            done,
            due,
            n_frames: 1,
            bytes_up: 0,
            bytes_down: 0,
            outcome,
        });
    }
}

#[cfg(test)]
mod tests;
