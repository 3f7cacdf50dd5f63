//! Lines on their way to a stream: bounded, and never waited for.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use lipsync_core::sync::{lock, unpoisoned};

/// Bytes of the lines that wait.
const MAX_BYTES: usize = 1 << 20;
/// What a line costs beside its text.
const LINE_BYTES: usize = 64;
/// A longer line is cut.
const MAX_LINE_BYTES: usize = 64 << 10;

/// The queue before one stream's thread. Clones are the same queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held for moments only, never while anything is written.
    state: Mutex<State>,
    /// Told to the writer: something came, or it is to end.
    came: Condvar,
    /// Told to whoever closes: the writer has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    n_bytes: usize,
    is_closing: bool,
    has_ended: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Line(Box<[u8]>),
    /// So many lines would stand here, for which there was no room.
    Gap(u64),
}

/// What a writer is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write this line.
    Line(Box<[u8]>),
    /// So many lines have been dropped here.
    Gap(u64),
    /// Nothing came for as long as it wanted to wait.
    Nothing,
    /// End: nothing is left, and nothing will come.
    End,
}

impl Queue {
    /// Takes a line, or drops it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let line = cut(line);
        let mut state = self.lock();
        if state.has_ended {
            return;
        }
        let n_bytes = state.n_bytes + line.len() + LINE_BYTES;
        if n_bytes <= MAX_BYTES {
            state.n_bytes = n_bytes;
            state.waiting.push_back(Entry::Line(line));
        } else if let Some(Entry::Gap(n)) = state.waiting.back_mut() {
            *n += 1;
        } else {
            // There are never more gaps than lines and one.
            state.waiting.push_back(Entry::Gap(1));
        }
        drop(state);
        self.shared.came.notify_one();
    }

    /// For the writer; waits at most for `limit`.
    pub(super) fn next(&self, limit: Duration) -> Next {
        let state = self.lock();
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_closing;
        let waited = self.shared.came.wait_timeout_while(state, limit, is_idle);
        let mut state = unpoisoned(waited).0;
        match state.waiting.pop_front() {
            Some(Entry::Line(line)) => {
                state.n_bytes -= line.len() + LINE_BYTES;
                Next::Line(line)
            }
            Some(Entry::Gap(n)) => Next::Gap(n),
            None if state.is_closing => Next::End,
            None => Next::Nothing,
        }
    }

    /// For the writer: it is gone, and lines are dropped from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        state.waiting.clear();
        state.n_bytes = 0;
        drop(state);
        self.shared.ended.notify_all();
    }

    /// Has the writer end once it has written what waits, and waits for that, at most for `limit`.
    pub(super) fn close(&self, limit: Duration) {
        let mut state = self.lock();
        state.is_closing = true;
        self.shared.came.notify_one();
        let runs = |state: &mut State| !state.has_ended;
        drop(self.shared.ended.wait_timeout_while(state, limit, runs));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

/// The line, or its beginning and how long it was.
fn cut(line: &[u8]) -> Box<[u8]> {
    if line.len() <= MAX_LINE_BYTES {
        return line.into();
    }
    let mut end = MAX_LINE_BYTES;
    // Not in the middle of a character.
    while end > 0 && line[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    let rest = format!("… ({} bytes)\n", line.len());
    [&line[..end], rest.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    fn line(text: &str) -> Next {
        Next::Line(text.as_bytes().into())
    }

    #[test]
    fn lines_come_out_in_order() {
        let queue = Queue::default();
        queue.push(b"a\n");
        queue.push(b"b\n");
        assert_eq!(queue.next(AT_ONCE), line("a\n"));
        assert_eq!(queue.next(AT_ONCE), line("b\n"));
        assert_eq!(queue.next(AT_ONCE), Next::Nothing);
        assert_eq!(queue.lock().n_bytes, 0);
    }

    #[test]
    fn what_has_no_room_is_counted_where_it_would_stand() {
        let queue = Queue::default();
        let long = "x".repeat(1000);
        let n_fit = MAX_BYTES / (long.len() + LINE_BYTES);
        for _ in 0..n_fit + 7 {
            queue.push(long.as_bytes());
        }
        assert_eq!(queue.next(AT_ONCE), line(&long));
        queue.push(b"after\n");
        for _ in 1..n_fit {
            assert_eq!(queue.next(AT_ONCE), line(&long));
        }
        assert_eq!(queue.next(AT_ONCE), Next::Gap(7));
        assert_eq!(queue.next(AT_ONCE), line("after\n"));
        assert_eq!(queue.next(AT_ONCE), Next::Nothing);
    }

    #[test]
    fn a_huge_line_is_cut_between_characters() {
        let queue = Queue::default();
        queue.push("ü".repeat(1 << 20).as_bytes());
        queue.push(b"next\n");
        let Next::Line(cut) = queue.next(AT_ONCE) else {
            panic!("no line");
        };
        let text = std::str::from_utf8(&cut).unwrap();
        assert!(text.ends_with("ü… (2097152 bytes)\n"), "{}", text.len());
        assert!(text.len() < MAX_LINE_BYTES + 32);
        assert_eq!(queue.next(AT_ONCE), line("next\n"));
    }

    #[test]
    fn closing_does_not_wait_for_a_writer_that_is_stuck() {
        let queue = Queue::default();
        queue.push(b"a\n");
        queue.close(Duration::from_millis(1));
        assert_eq!(queue.next(AT_ONCE), line("a\n"));
        assert_eq!(queue.next(Duration::MAX), Next::End);
        queue.end();
        queue.close(Duration::MAX);
        queue.push(b"too late\n");
        assert!(queue.lock().waiting.is_empty());
    }
}
