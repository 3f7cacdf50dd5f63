//! What the log says of refused calls: how many, every few seconds.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lipsync_serving::telemetry::Book;

/// How often. The log writes five lines of a kind in ten seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// Which refusals have been told.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog(HashMap<Box<str>, u64>);

impl RefusalLog {
    /// Tells of refusals until it is dropped.
    pub(crate) async fn keep_telling(book: Arc<Book>) {
        let mut log = Self::default();
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            for (reason, n) in log.news(&book) {
                tracing::warn!(what = &*reason, calls = n, "calls refused");
            }
        }
    }

    /// Refusals since the last time, by reason.
    fn news(&mut self, book: &Book) -> Vec<(Box<str>, u64)> {
        let mut news = Vec::new();
        for ([reason], counter) in book.refusals() {
            let n = counter.get();
            let before = self.0.insert(reason.clone(), n).unwrap_or_default();
            if n > before {
                news.push((reason, n - before));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use lipsync_serving::{ServeError, telemetry::Tally};

    use super::*;

    #[test]
    fn each_refusal_is_told_once() {
        let (book, mut log) = (Book::default(), RefusalLog::default());
        let refuse = |error: &ServeError| {
            let tally = Tally::default();
            tally.fail(error);
            book.refuse(&tally);
        };
        refuse(&ServeError::Starting);
        refuse(&ServeError::Starting);
        refuse(&ServeError::DeadlineExceeded);
        assert_eq!(log.news(&book), [("starting".into(), 2)]);
        assert_eq!(log.news(&book), []);
        refuse(&ServeError::Draining);
        assert_eq!(log.news(&book), [("draining".into(), 1)]);
    }
}
