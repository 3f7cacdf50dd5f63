//! What the server has changed by itself, and why.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::{Duration, SystemTime},
};

use lipsync_core::sync::lock;

/// Events that are kept.
const MAX_EVENTS: usize = 200;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, seconds since the Unix epoch.
    pub at_s: u64,
    /// What was changed, a word.
    pub act: &'static str,
    /// Why, a word.
    pub reason: &'static str,
    /// Both, as a sentence.
    pub text: String,
}

/// All changes: the last ones, and how many there were.
#[derive(Debug, Default)]
pub struct Events(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    latest: VecDeque<Event>,
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Events {
    /// Notes a change, and writes it to the log.
    pub fn note(&self, act: &'static str, reason: &'static str, text: String) {
        tracing::info!(act, reason, "adapting: {text}");
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at_s = since.unwrap_or(Duration::ZERO).as_secs();
        let mut record = lock(&self.0);
        *record.counts.entry((act, reason)).or_default() += 1;
        if record.latest.len() >= MAX_EVENTS {
            record.latest.pop_front();
        }
        record.latest.push_back(Event {
            at_s,
            act,
            reason,
            text,
        });
    }

    /// The last ones, the oldest first.
    #[must_use]
    pub fn latest(&self) -> Vec<Event> {
        lock(&self.0).latest.iter().cloned().collect()
    }

    /// How many there were since the start, by act and reason.
    #[must_use]
    pub fn counts(&self) -> Vec<((&'static str, &'static str), u64)> {
        let record = lock(&self.0);
        record.counts.iter().map(|(key, n)| (*key, *n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let events = Events::default();
        for n in 0..MAX_EVENTS + 3 {
            events.note(
                "workers",
                if n == 0 { "idle" } else { "wait" },
                n.to_string(),
            );
        }
        let latest = events.latest();
        assert_eq!(latest.len(), MAX_EVENTS);
        assert_eq!(latest[0].text, "3");
        let n_waits = u64::try_from(MAX_EVENTS + 2).unwrap();
        let expected = [(("workers", "idle"), 1), (("workers", "wait"), n_waits)];
        assert_eq!(events.counts(), expected);
    }
}
