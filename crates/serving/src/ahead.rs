//! Windows that are made ahead of the pieces that a clip is asked for in.
//!
//! A cut of a clip is heard with its surroundings: some 20 frames of audio around each piece, whatever its length. So
//! windows are made for several pieces at a time, first for one, so that it is there soon, then for more and more.

use std::sync::Arc;

use lipsync_core::saturate::u64_of;
use lipsync_registry::Model;

use crate::clip::{ClipWindows, window_floats};

/// Frames whose windows are made at once, at most. They take 2 MB for AVE.
pub const MAX_AHEAD_FRAMES: usize = 64;

/// What is there of a clip beyond the pieces that were asked for.
#[derive(Debug, Default)]
pub struct Ahead {
    block: Option<Block>,
    /// How often windows were made.
    n_blocks: u32,
}

/// Windows that were made together.
#[derive(Debug)]
struct Block {
    /// Whose windows they are: another configuration may have another model under the same id.
    model: Arc<Model>,
    windows: ClipWindows,
    n_taken: usize,
}

impl Ahead {
    /// Frames to make windows for, where the next piece has `n_frames` of the `n_left` that are still to come.
    pub(crate) fn n_to_make(&self, n_frames: usize, n_left: usize) -> usize {
        let more = n_frames.saturating_mul(1 << self.n_blocks.min(16));
        more.min(MAX_AHEAD_FRAMES).min(n_left).max(n_frames)
    }

    /// The windows of the next piece; `None` where there are not that many.
    pub(crate) fn take(&mut self, model: &Arc<Model>, n_frames: usize) -> Option<ClipWindows> {
        let block = self.block.as_mut()?;
        let is_enough = block.n_taken + n_frames <= block.windows.n_frames;
        (is_enough && Arc::ptr_eq(&block.model, model)).then(|| block.take(n_frames))
    }

    /// Keeps windows, all but those of the first piece.
    pub(crate) fn put(
        &mut self,
        model: &Arc<Model>,
        windows: ClipWindows,
        n_frames: usize,
    ) -> ClipWindows {
        self.n_blocks += 1;
        let block = self.block.insert(Block {
            model: Arc::clone(model),
            windows,
            n_taken: 0,
        });
        block.take(n_frames)
    }
}

impl Block {
    fn take(&mut self, n_frames: usize) -> ClipWindows {
        let windows = &mut self.windows;
        let (begin, end) = (self.n_taken, windows.n_frames.min(self.n_taken + n_frames));
        let n_floats = window_floats(&self.model);
        self.n_taken = end;
        ClipWindows {
            data: windows.data[begin * n_floats..end * n_floats].into(),
            n_frames: end - begin,
            first_frame: windows.first_frame + u64_of(begin),
            warnings: std::mem::take(&mut windows.warnings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_and_more_is_made_at_once_but_never_more_than_there_is() {
        let after = |n_blocks| Ahead {
            block: None,
            n_blocks,
        };
        let made = |n_blocks| after(n_blocks).n_to_make(8, 1000);
        assert_eq!([0, 1, 2, 3, 4, 99].map(made), [8, 16, 32, 64, 64, 64]);
        assert_eq!(after(3).n_to_make(8, 20), 20);
        assert_eq!(after(0).n_to_make(3, 3), 3);
        // A piece is made whole, whatever its length.
        assert_eq!(after(0).n_to_make(100, 500), 100);
    }
}
