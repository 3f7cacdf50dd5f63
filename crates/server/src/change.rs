//! Whether a file is another one than before, and when what changes has come to rest.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// What is another where a file was written, or another file was put in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Print {
    /// Of the file that all links on the way lead to. Blocks on the file system.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        let of = std::fs::metadata(file).ok()?;
        Some(Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
        })
    }
}

/// Takes looks at something, and tells once of each state that has lasted for a while.
#[derive(Debug)]
pub(crate) struct Debounce<T> {
    quiet: Duration,
    /// What was told of last.
    told: Option<T>,
    /// What was seen last, and since when.
    seen: Option<(T, Instant)>,
}

impl<T: PartialEq + Clone> Debounce<T> {
    pub(crate) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            told: None,
            seen: None,
        }
    }

    /// Whether this is another state than the one that was told of last, and has lasted long enough. `None` is no
    /// state: a file that is not there is about to be.
    pub(crate) fn look(&mut self, now: Instant, state: Option<T>) -> bool {
        let Some(state) = state else {
            self.seen = None;
            return false;
        };
        let since = match &self.seen {
            Some((seen, since)) if *seen == state => *since,
            _ => now,
        };
        let is_ripe = now.duration_since(since) >= self.quiet && self.told.as_ref() != Some(&state);
        if is_ripe {
            self.told = Some(state.clone());
        }
        self.seen = Some((state, since));
        is_ripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(500);

    #[test]
    fn each_state_is_told_of_once_when_it_has_lasted() {
        let mut debounce = Debounce::new(QUIET);
        let begun = Instant::now();
        let mut told = Vec::new();
        // What is seen every 250 ms: a file that is there, written in three steps, gone for a moment, another, and
        // the one before again.
        let looks = [
            Some(1),
            Some(1),
            Some(1),
            Some(1),
            Some(2),
            Some(3),
            Some(4),
            Some(4),
            Some(4),
            None,
            Some(4),
            Some(4),
            Some(4),
            Some(5),
            Some(4),
            Some(4),
            Some(4),
            Some(1),
            Some(1),
            Some(1),
        ];
        for (n, look) in (0_u32..).zip(looks) {
            if debounce.look(begun + n * QUIET / 2, look) {
                told.push((n, look));
            }
        }
        assert_eq!(told, [(2, Some(1)), (8, Some(4)), (19, Some(1))]);
    }
}
