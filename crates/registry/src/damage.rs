//! Frames whose files are damaged, and which frames are shown in their place.
//!
//! A stream must not end in the middle of a sentence for one bad picture out of hundreds, and to decode them
//! all before a model is ready would take minutes. So a damaged frame is shown as its nearest good neighbour:
//! picture, face and rectangle. Once it was found damaged that is so until the model is loaded again, whatever
//! becomes of the file.

use std::{collections::BTreeSet, sync::Mutex};

use crate::lock;

/// The frames of a model that are known to be damaged.
#[derive(Debug, Default)]
pub(crate) struct Damaged(Mutex<BTreeSet<u32>>);

impl Damaged {
    /// Takes note of one; whether that is news.
    pub(crate) fn note(&self, index: u32) -> bool {
        lock(&self.0).insert(index)
    }

    /// The frame that is shown for `index`, of `n_frames`: itself, or the nearest that is not known to be
    /// damaged, of two the one before it. Where all are, itself.
    pub(crate) fn shown(&self, index: u32, n_frames: u32) -> u32 {
        let damaged = lock(&self.0);
        if !damaged.contains(&index) {
            return index;
        }
        let near = |distance: u32| {
            let before = index.checked_sub(distance);
            let after = index.checked_add(distance).filter(|&n| n < n_frames);
            let mut both = before.into_iter().chain(after);
            both.find(|n| !damaged.contains(n))
        };
        (1..n_frames).find_map(near).unwrap_or(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_good_neighbour_is_shown() {
        let damaged = Damaged::default();
        let shown = || [0, 1, 2, 3, 4].map(|index| damaged.shown(index, 5));
        assert_eq!(shown(), [0, 1, 2, 3, 4]);
        assert!(damaged.note(2));
        assert_eq!(shown(), [0, 1, 1, 3, 4]);
        assert!(damaged.note(1));
        assert!(!damaged.note(1), "it is known");
        assert_eq!(shown(), [0, 0, 3, 3, 4]);
        assert!(damaged.note(0));
        assert_eq!(shown(), [3, 3, 3, 3, 4]);
        assert!(damaged.note(3) && damaged.note(4));
        assert_eq!(shown(), [0, 1, 2, 3, 4], "none is left");
    }
}
