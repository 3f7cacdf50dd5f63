//! Loading frames before they are asked for, off the request path.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
};

use lipsync_core::background_index;

use crate::frames::Frames;

/// Requests that may wait; one more is dropped, for its frames are then loaded when they are needed.
const QUEUE: usize = 64;
/// Frames that one request reads ahead at most.
const MAX_FRAMES: usize = 64;

/// The other end of the thread that reads ahead. The thread ends when all clones are gone.
#[derive(Clone)]
pub(crate) struct ReadAhead {
    sender: Option<mpsc::SyncSender<Stretch>>,
}

/// A stretch of an avatar's walk.
struct Stretch {
    frames: Arc<Frames>,
    indices: Vec<u32>,
}

impl ReadAhead {
    /// Starts the thread. Without one nothing is read ahead, and all works the same, later.
    pub(crate) fn start() -> Self {
        let (sender, stretches) = mpsc::sync_channel::<Stretch>(QUEUE);
        let thread = thread::Builder::new().name("read-ahead".into());
        let started = thread.spawn(move || {
            for stretch in stretches {
                // A frame that panics is for whoever needs it to hear of; the thread is for all models.
                let _ = catch_unwind(AssertUnwindSafe(|| stretch.load()));
            }
        });
        if let Err(error) = &started {
            tracing::warn!(%error, "cannot start the thread that reads frames ahead");
        }
        Self {
            sender: started.ok().map(|_| sender),
        }
    }

    /// Loads the `n_frames` frames of an avatar's walk from `place` on, if they are missing. Never
    /// blocks.
    ///
    /// At most half of what the cache holds, so that what is read ahead does not push out what is
    /// being shown.
    pub(crate) fn request(&self, frames: &Arc<Frames>, place: u64, n_frames: usize) {
        let Some(sender) = &self.sender else { return };
        let n_ahead = n_frames.min(frames.base_frames() / 2).min(MAX_FRAMES);
        let mut indices: Vec<u32> = (place..)
            .take(n_ahead)
            .map(|place| background_index(place, frames.files.len()))
            .filter(|index| frames.lacks(*index))
            .collect();
        indices.dedup();
        if !indices.is_empty() {
            let frames = Arc::clone(frames);
            // A full queue is no loss: see `QUEUE`.
            let _ = sender.try_send(Stretch { frames, indices });
        }
    }
}

impl Stretch {
    fn load(self) {
        for index in self.indices {
            if let Err(error) = self.frames.read_ahead(index) {
                // Whoever needs the frame is told; it may be repaired until then.
                tracing::debug!(error = error.detail(), "a frame cannot be read ahead");
            }
        }
    }
}
