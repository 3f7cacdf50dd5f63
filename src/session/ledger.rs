//! Audio that a session has sent, and frames that have come back. Pure bookkeeping, without waiting.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    AudioFormat, SessionError,
    spoken::{Again, Spoken},
};
use crate::v1::{CompositedFrame, Opened, Resumed};

/// The account of one session: segment ids, audio that the server holds, interruptions.
///
/// Audio counts as held from the moment it is sent until a frame that shows it comes back. The server
/// counts only audio that it has not begun to work on, so this never reaches the server's own limit.
#[derive(Debug)]
pub(super) struct Ledger {
    fps: u64,
    items_per_s: u64,
    /// Items that may be held.
    window: u64,
    /// Segments with held audio, oldest first.
    held: VecDeque<Held>,
    newest: u64,
    newest_is_open: bool,
    /// Everything up to this segment was interrupted.
    cleared_to: u64,
    /// Interruptions that the server has not answered: the newest segment of each.
    unanswered: VecDeque<u64>,
    /// The server has dropped everything up to this segment, too.
    confirmed_to: u64,
    is_over: bool,
    /// Audio that may have to be sent again, in a session that can be resumed.
    spoken: Option<Spoken>,
    /// Connections so far. What is sent over one that has gone is sent again over the next.
    connection: u64,
}

#[derive(Debug)]
struct Held {
    segment_id: u64,
    n_items: u64,
    /// Items whose frames have come back.
    n_shown: u64,
}

/// A piece of audio that may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) segment_id: u64,
    pub(super) n_items: usize,
}

impl Ledger {
    pub(super) fn new(format: AudioFormat, opened: &Opened) -> Self {
        let items_per_s = u64::from(format.items_per_s(opened.fps)).max(1);
        Self {
            fps: u64::from(opened.fps).max(1),
            items_per_s,
            window: u64::from(opened.max_buffered_audio_s).max(1) * items_per_s,
            held: VecDeque::new(),
            newest: 0,
            newest_is_open: false,
            cleared_to: 0,
            unanswered: VecDeque::new(),
            confirmed_to: 0,
            is_over: false,
            spoken: None,
            connection: 0,
        }
    }

    /// With the audio that a server must hear again to go on with this session elsewhere.
    pub(super) fn remembering(self, format: AudioFormat, opened: &Opened) -> Self {
        Self {
            spoken: Some(Spoken::new(format, opened)),
            ..self
        }
    }

    /// Keeps audio that was granted and is sent.
    pub(super) fn say(&mut self, segment_id: u64, piece: &Bytes) {
        if let Some(spoken) = &mut self.spoken {
            spoken.say(segment_id, piece.clone());
        }
    }

    /// Goes on over another connection, and gives what must be sent again there. `None` where that is not here any more.
    pub(super) fn resume(&mut self, resumed: &Resumed) -> Option<Vec<Again>> {
        let again = self.spoken.as_ref()?.again(resumed)?;
        self.connection += 1;
        // Interruptions need no answer any more: the server has forgotten what they were about.
        self.unanswered.clear();
        self.confirmed_to = self.cleared_to;
        Some(again)
    }

    /// The number of the present connection.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    /// Reserves room for at most `n_items` more of the current segment, and begins a segment if there is none.
    /// `None` if there is no room now.
    pub(super) fn grant(&mut self, n_items: usize) -> Option<Granted> {
        // A second at most, so that messages stay small; small windows go round in four pieces.
        let piece = (self.window / 4).clamp(1, self.items_per_s);
        let n_items = (n_items as u64).min(piece).min(self.room());
        if n_items == 0 {
            return None;
        }
        if !self.newest_is_open {
            self.newest += 1;
            self.newest_is_open = true;
        }
        match self.held.back_mut().filter(|h| h.segment_id == self.newest) {
            Some(held) => held.n_items += n_items,
            None => self.held.push_back(Held {
                segment_id: self.newest,
                n_items,
                n_shown: 0,
            }),
        }
        Some(Granted {
            segment_id: self.newest,
            n_items: usize::try_from(n_items).unwrap_or(usize::MAX),
        })
    }

    /// Refuses audio that does not fit now.
    pub(super) fn check_room(&self, n_items: usize) -> Result<(), SessionError> {
        if n_items as u64 <= self.room() {
            return Ok(());
        }
        Err(SessionError::WindowFull {
            held: self.duration(self.n_held()),
            window: self.duration(self.window),
        })
    }

    /// Ends the current segment and returns its id; `None` if there is none.
    pub(super) fn end_segment(&mut self) -> Option<u64> {
        let ended = std::mem::take(&mut self.newest_is_open).then_some(self.newest);
        if let Some(spoken) = self.spoken.as_mut().filter(|_| ended.is_some()) {
            spoken.end();
        }
        ended
    }

    /// The segment that audio goes to, or went to last; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The segment that audio belongs to now: the open one, or the one that begins with it.
    pub(super) fn current(&self) -> u64 {
        self.newest + u64::from(!self.newest_is_open)
    }

    /// The open segment, if there is one.
    pub(super) fn open_segment(&self) -> Option<u64> {
        self.newest_is_open.then_some(self.newest)
    }

    /// Interrupts everything. Later audio reaches a server that holds nothing.
    pub(super) fn clear(&mut self) {
        self.newest_is_open = false;
        self.cleared_to = self.newest;
        self.unanswered.push_back(self.newest);
        self.held.clear();
        if let Some(spoken) = &mut self.spoken {
            spoken.clear();
        }
    }

    /// The server has answered an interruption.
    pub(super) fn confirm_clear(&mut self) {
        if let Some(newest) = self.unanswered.pop_front() {
            self.confirmed_to = newest;
        }
    }

    /// Books a frame; false if its segment was interrupted while it was on its way.
    ///
    /// # Errors
    /// [`SessionError::Protocol`] for a frame of a segment whose end the server has confirmed.
    pub(super) fn book_frame(&mut self, frame: &CompositedFrame) -> Result<bool, SessionError> {
        if let Some(spoken) = &mut self.spoken {
            spoken.shown(frame);
        }
        // Frames of silence belong to no segment.
        let Some(audio_time_us) = frame.audio_time_us else {
            return Ok(true);
        };
        let segment_id = frame.segment_id;
        if segment_id <= self.confirmed_to {
            return Err(SessionError::Protocol {
                what: "a frame came after its segment was cleared",
            });
        }
        // Segments play in order.
        while self.held.front().is_some_and(|h| h.segment_id < segment_id) {
            self.held.pop_front();
        }
        if let Some(held) = self.held.front_mut().filter(|h| h.segment_id == segment_id) {
            let shown_us = audio_time_us.saturating_add(1_000_000 / self.fps);
            let n_shown = u128::from(shown_us) * u128::from(self.items_per_s) / 1_000_000;
            held.n_shown = u64::try_from(n_shown).map_or(held.n_items, |n| n.min(held.n_items));
        }
        Ok(segment_id > self.cleared_to)
    }

    /// Books the end of a segment; false if the segment was interrupted while it was on its way.
    pub(super) fn book_end(&mut self, segment_id: u64) -> bool {
        if let Some(spoken) = &mut self.spoken {
            spoken.ended(segment_id);
        }
        while self
            .held
            .front()
            .is_some_and(|h| h.segment_id <= segment_id)
        {
            self.held.pop_front();
        }
        segment_id > self.cleared_to
    }

    /// Ends the account: nothing more will come.
    pub(super) fn set_over(&mut self) {
        self.is_over = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn n_held(&self) -> u64 {
        self.held
            .iter()
            .map(|held| held.n_items - held.n_shown)
            .sum()
    }

    fn room(&self) -> u64 {
        self.window.saturating_sub(self.n_held())
    }

    fn duration(&self, n_items: u64) -> Duration {
        Duration::from_millis(n_items.saturating_mul(1000) / self.items_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 25 fps, 1 kHz, at most 2 s with the server.
    fn ledger() -> Ledger {
        let opened = Opened {
            fps: 25,
            max_buffered_audio_s: 2,
            ..Opened::default()
        };
        Ledger::new(AudioFormat::mono_s16(1_000), &opened)
    }

    fn frame(segment_id: u64, n: u64) -> CompositedFrame {
        CompositedFrame {
            segment_id,
            audio_time_us: Some(n * 40_000),
            ..CompositedFrame::default()
        }
    }

    fn grant_all(ledger: &mut Ledger, mut n_items: usize) -> usize {
        let wanted = n_items;
        while let Some(granted) = ledger.grant(n_items) {
            n_items -= granted.n_items;
        }
        wanted - n_items
    }

    #[test]
    fn room_comes_back_with_the_frames() {
        let mut ledger = ledger();
        assert_eq!(grant_all(&mut ledger, 5_000), 2_000);
        assert!(matches!(
            ledger.check_room(1),
            Err(SessionError::WindowFull { held, .. }) if held == Duration::from_secs(2)
        ));
        assert_eq!(ledger.book_frame(&frame(1, 0)), Ok(true));
        assert_eq!(ledger.book_frame(&frame(1, 1)), Ok(true));
        assert_eq!(grant_all(&mut ledger, 5_000), 80);
        // More frames than audio: the tail of a segment is rounded up.
        assert_eq!(ledger.book_frame(&frame(1, 500)), Ok(true));
        assert_eq!(ledger.check_room(2_000), Ok(()));
    }

    #[test]
    fn segments_number_themselves_and_end_in_order() {
        let mut ledger = ledger();
        assert_eq!(ledger.end_segment(), None);
        let ids: Vec<u64> = (0..3)
            .map(|_| {
                let granted = ledger.grant(10).expect("room");
                assert_eq!(ledger.end_segment(), Some(granted.segment_id));
                granted.segment_id
            })
            .collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!(ledger.end_segment(), None);
        assert!(ledger.book_end(2));
        assert_eq!(ledger.n_held(), 10);
        assert_eq!(ledger.book_frame(&frame(3, 0)), Ok(true));
        assert_eq!(ledger.n_held(), 0);
    }

    #[test]
    fn an_interruption_drops_what_is_under_way_and_pins_what_is_gone() {
        let mut ledger = ledger();
        grant_all(&mut ledger, 2_000);
        ledger.clear();
        assert_eq!(ledger.check_room(2_000), Ok(()));
        let granted = ledger.grant(10).expect("room");
        assert_eq!(granted.segment_id, 2);
        // Sent before the server knew.
        assert_eq!(ledger.book_frame(&frame(1, 3)), Ok(false));
        assert!(!ledger.book_end(1));
        ledger.confirm_clear();
        assert!(ledger.book_frame(&frame(1, 4)).is_err());
        assert_eq!(ledger.book_frame(&frame(2, 0)), Ok(true));
        let idle = CompositedFrame::default();
        assert_eq!(ledger.book_frame(&idle), Ok(true));
    }

    #[test]
    fn each_answer_confirms_one_interruption() {
        let mut ledger = ledger();
        for _ in 0..2 {
            grant_all(&mut ledger, 10);
            ledger.clear();
        }
        ledger.confirm_clear();
        assert_eq!(ledger.book_frame(&frame(2, 0)), Ok(false));
        ledger.confirm_clear();
        assert!(ledger.book_frame(&frame(2, 1)).is_err());
    }
}
