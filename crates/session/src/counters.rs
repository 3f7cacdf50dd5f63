//! What the server counts about its sessions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::outbox::Kind;
use lipsync_core::saturate::micros;

/// Counters of all sessions since the start.
#[derive(Debug, Default)]
pub struct SessionCounters {
    /// Sessions whose memory has not been given back.
    alive: AtomicU64,
    opened: AtomicU64,
    frames: AtomicU64,
    silent_frames: AtomicU64,
    idle_frames: AtomicU64,
    skipped_frames: AtomicU64,
    late_frames: AtomicU64,
    max_late_us: AtomicU64,
    too_slow: AtomicU64,
    clears: AtomicU64,
}

/// What [`SessionCounters`] have counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Sessions whose memory has not been given back.
    pub alive: u64,
    /// Sessions that began.
    pub opened: u64,
    /// Frames sent.
    pub frames: u64,
    /// Of these, background frames in a segment's silence.
    pub silent_frames: u64,
    /// Of these, frames between segments.
    pub idle_frames: u64,
    /// Of these, background frames because there was no time for the network.
    pub skipped_frames: u64,
    /// Paced frames that left late.
    pub late_frames: u64,
    /// By how much the latest of them did, µs.
    pub max_late_us: u64,
    /// Sessions that ended because they fell behind.
    pub too_slow: u64,
    /// Interruptions.
    pub clears: u64,
}

impl SessionCounters {
    /// All of them now.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        SessionStats {
            alive: self.alive.load(Relaxed),
            opened: self.opened.load(Relaxed),
            frames: self.frames.load(Relaxed),
            silent_frames: self.silent_frames.load(Relaxed),
            idle_frames: self.idle_frames.load(Relaxed),
            skipped_frames: self.skipped_frames.load(Relaxed),
            late_frames: self.late_frames.load(Relaxed),
            max_late_us: self.max_late_us.load(Relaxed),
            too_slow: self.too_slow.load(Relaxed),
            clears: self.clears.load(Relaxed),
        }
    }

    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self, kind: Kind) {
        self.frames.fetch_add(1, Relaxed);
        let special = match kind {
            Kind::Spoken => return,
            Kind::Silent => &self.silent_frames,
            Kind::Idle => &self.idle_frames,
            Kind::Skipped => &self.skipped_frames,
        };
        special.fetch_add(1, Relaxed);
    }

    pub(super) fn late(&self, late: Duration) {
        self.late_frames.fetch_add(1, Relaxed);
        let late_us = micros(late);
        self.max_late_us.fetch_max(late_us, Relaxed);
    }

    pub(super) fn too_slow(&self) {
        self.too_slow.fetch_add(1, Relaxed);
    }

    pub(super) fn cleared(&self) {
        self.clears.fetch_add(1, Relaxed);
    }
}

/// Counts a session as alive until it is dropped.
#[derive(Debug)]
pub struct Alive(Arc<SessionCounters>);

impl Alive {
    /// Alive from now on.
    #[must_use]
    pub fn new(counters: Arc<SessionCounters>) -> Self {
        counters.alive.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Relaxed);
    }
}
