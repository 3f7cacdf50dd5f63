//! Frames that are made together.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use lipsync_core::Fps;

use crate::{
    Frame,
    fade::{FULL, follow},
    outbox::{Cursor, Kind, Look},
    plan::Slot,
    position::Position,
};

/// Frames of the first batch of a segment: few, so that something is seen soon.
pub const FIRST_FRAMES: usize = 2;
/// Frames of the batches after it.
pub(crate) const BATCH_FRAMES: usize = 8;
/// The same where frames leave at their time: others wait for the workers, too.
pub const PACED_FRAMES: usize = 4;
/// Frames that would leave so late are shown without the network, until the clock is caught up with.
pub const TOO_LATE: Duration = Duration::from_millis(120);

/// Frames to be made together, at consecutive places.
#[derive(Debug)]
pub struct Batch {
    /// Place of the first one on the avatar's timeline.
    pub place: u64,
    /// When the first one is to leave; `None` where frames are not paced, or their clock has not started.
    pub due: Option<Instant>,
    /// At least one; all need the network, or none.
    pub shots: Vec<Shot>,
}

/// One frame to be made.
#[derive(Debug)]
pub struct Shot {
    /// How it comes about.
    pub kind: Kind,
    /// The part that the network has in it, of [`FULL`]; 0 = it is not run.
    pub weight: u8,
    /// What it is run on.
    pub window: Option<Arc<[f32]>>,
    /// What it is made of; `None` for idle frames.
    pub slot: Option<Slot>,
}

impl Batch {
    /// The next idle frame; after speech the mouth comes to rest.
    pub(crate) fn idle(cursor: &Cursor) -> Self {
        let window = cursor.look.window.clone();
        let weight = window
            .as_ref()
            .map_or(0, |_| follow(cursor.look.weight, false));
        Self {
            place: cursor.place,
            due: None,
            shots: vec![Shot {
                kind: Kind::Idle,
                weight,
                window: window.filter(|_| weight > 0),
                slot: None,
            }],
        }
    }

    /// Whether it begins a segment.
    pub(crate) fn is_first(&self) -> bool {
        let first = self.shots.first().and_then(|shot| shot.slot.as_ref());
        first.is_some_and(|slot| slot.n == 0) && self.needs_network()
    }

    /// Whether the network has a part in it.
    pub fn needs_network(&self) -> bool {
        self.shots.first().is_some_and(Shot::needs_network)
    }
}

impl Shot {
    pub(crate) fn of_slot(slot: &Slot, weight: u8, is_late: bool) -> Self {
        let kind = match weight {
            0 => Kind::Silent,
            _ if is_late => Kind::Skipped,
            _ => Kind::Spoken,
        };
        Self {
            kind,
            weight,
            window: (weight > 0).then(|| Arc::clone(&slot.window)),
            slot: Some(slot.clone()),
        }
    }

    pub(crate) fn needs_network(&self) -> bool {
        self.weight > 0 && self.kind != Kind::Skipped
    }

    /// Whether the background frame's own face shows through.
    pub fn is_faded(&self) -> bool {
        self.weight < FULL
    }

    pub(crate) fn look(&self) -> Look {
        Look {
            weight: self.weight,
            window: self.window.clone(),
            is_idle: self.kind == Kind::Idle,
        }
    }

    /// The frame that it has become, before it has a time and a position.
    pub(crate) fn frame<P>(&self, place: u64, fps: Fps, picture: P) -> Frame<P> {
        let slot = self.slot.as_ref();
        Frame {
            place,
            pts_us: 0,
            segment_id: slot.map_or(0, |slot| slot.segment_id),
            audio_time_us: slot.map(|slot| fps.pts_us(slot.n)),
            audio: slot.map_or_else(Bytes::new, |slot| slot.audio.clone()),
            position: Position::start(place, false),
            picture,
        }
    }
}
