//! The times of one session's frames.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{
    models::ModelFigures,
    passage::{Passage, Spent, Witness},
};

/// Segments that may have been heard and have no frame yet. Of more, the times of the oldest are forgotten.
const MAX_HEARD: usize = 16;

/// Takes the times of one session's frames as its client sees them.
#[derive(Debug)]
pub struct SessionClock {
    figures: Arc<ModelFigures>,
    /// Frames follow each other without a break, across segments too.
    is_continuous: bool,
    /// The newest segment, and when its first audio came, until its first frame has left.
    heard: Option<(u64, Option<Instant>)>,
    /// The last frame: its segment, and when it left.
    sent: Option<(u64, Instant)>,
    trace: Option<Trace>,
}

/// What is told of segments to whoever traces the session.
#[derive(Debug)]
struct Trace {
    witness: Arc<dyn Witness>,
    /// Segments whose first audio came and that have no frame yet, the oldest first.
    heard: VecDeque<(u64, Instant)>,
    open: Option<Segment>,
}

/// A segment that has frames.
#[derive(Debug)]
struct Segment {
    id: u64,
    heard: Instant,
    first: Instant,
    last: Instant,
    n_frames: usize,
}

impl SessionClock {
    /// Of a session whose model and tenant these figures are.
    #[must_use]
    pub fn new(figures: Arc<ModelFigures>, is_continuous: bool) -> Self {
        Self {
            figures,
            is_continuous,
            heard: None,
            sent: None,
            trace: None,
        }
    }

    /// The same, of a session that is traced, if it is.
    pub(crate) fn traced(mut self, witness: Option<&Arc<dyn Witness>>) -> Self {
        self.trace = witness.map(|witness| Trace {
            witness: Arc::clone(witness),
            heard: VecDeque::new(),
            open: None,
        });
        self
    }

    /// Audio of a segment came.
    pub fn heard(&mut self, segment_id: u64, now: Instant) {
        if self.heard.is_none_or(|(newest, _)| newest < segment_id) {
            self.heard = Some((segment_id, Some(now)));
            if let Some(trace) = &mut self.trace {
                trace.heard(segment_id, now);
            }
        }
    }

    /// A frame of a segment leaves; those between segments are of segment 0.
    pub fn sent(&mut self, segment_id: u64, now: Instant) {
        if let Some(trace) = &mut self.trace {
            trace.sent(segment_id, now);
        }
        if let Some((newest, since)) = &mut self.heard
            && *newest == segment_id
            && let Some(since) = since.take()
        {
            let waited = now.saturating_duration_since(since);
            self.figures.first_frame_after(waited);
        }
        if let Some((before, at)) = self.sent.replace((segment_id, now))
            && (self.is_continuous || before == segment_id)
        {
            let interval = now.saturating_duration_since(at);
            self.figures.followed_after(interval);
        }
    }
}

impl Trace {
    fn heard(&mut self, segment_id: u64, now: Instant) {
        if self.heard.len() == MAX_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((segment_id, now));
    }

    fn sent(&mut self, segment_id: u64, now: Instant) {
        match &mut self.open {
            Some(segment) if segment.id == segment_id => {
                segment.last = now;
                segment.n_frames += 1;
            }
            // Segments follow each other, and between them there are frames of none.
            _ => {
                self.close();
                if segment_id > 0 {
                    self.begin(segment_id, now);
                }
            }
        }
    }

    fn begin(&mut self, id: u64, now: Instant) {
        let heard = self.heard.iter().find(|(heard, _)| *heard == id);
        self.open = Some(Segment {
            id,
            heard: heard.map_or(now, |(_, at)| *at),
            first: now,
            last: now,
            n_frames: 1,
        });
        self.heard.retain(|(heard, _)| *heard > id);
    }

    fn close(&mut self) {
        if let Some(segment) = self.open.take() {
            let first_frame = segment.first.saturating_duration_since(segment.heard);
            self.witness.saw(Passage {
                what: Spent::Segment {
                    id: segment.id,
                    first_frame,
                },
                began: segment.heard.into_std(),
                ended: segment.last.into_std(),
                n_frames: segment.n_frames,
            });
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use super::*;

    #[test]
    fn segments_have_their_first_frames_and_intervals() {
        let figures = Arc::<ModelFigures>::default();
        let mut clock = SessionClock::new(Arc::clone(&figures), false);
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        clock.heard(1, at(0));
        clock.heard(1, at(20));
        clock.sent(1, at(100));
        clock.sent(1, at(140));
        clock.heard(2, at(200));
        clock.sent(1, at(240));
        clock.sent(2, at(500));
        let first = figures.first_frame();
        assert_eq!((first.count(), first.sum), (2, 400_000));
        let interval = figures.interval();
        assert_eq!(
            (interval.count(), interval.sum),
            (2, 140_000),
            "none across segments"
        );
    }

    #[derive(Debug, Default)]
    struct Notebook(Mutex<Vec<Passage>>);

    impl Witness for Notebook {
        fn saw(&self, passage: Passage) {
            self.0.lock().unwrap().push(passage);
        }
    }

    #[test]
    fn each_segment_is_told_once_it_is_over() {
        let notebook = Arc::new(Notebook::default());
        let witness: Arc<dyn Witness> = Arc::clone(&notebook) as _;
        let mut clock = SessionClock::new(Arc::default(), true).traced(Some(&witness));
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let told = || {
            let passages = notebook.0.lock().unwrap();
            let ms = |at: std::time::Instant| (at - begun.into_std()).as_millis();
            let words = passages.iter().map(|p| match p.what {
                Spent::Segment { id, first_frame } => (
                    id,
                    ms(p.began),
                    ms(p.ended),
                    p.n_frames,
                    first_frame.as_millis(),
                ),
                _ => (0, 0, 0, 0, 0),
            });
            words.collect::<Vec<_>>()
        };
        clock.heard(1, at(0));
        clock.sent(0, at(20));
        clock.sent(1, at(50));
        clock.heard(2, at(60));
        clock.sent(1, at(90));
        assert_eq!(told(), []);
        clock.sent(0, at(130));
        assert_eq!(told(), [(1, 0, 90, 2, 50)]);
        clock.sent(2, at(170));
        drop(clock);
        assert_eq!(told()[1], (2, 60, 170, 1, 110));
        // Audio without frames takes no memory.
        let mut deaf = SessionClock::new(Arc::default(), true).traced(Some(&witness));
        (0..10_000).for_each(|id| deaf.heard(id, at(id)));
        assert!(deaf.trace.as_ref().unwrap().heard.len() <= MAX_HEARD);
    }
}
