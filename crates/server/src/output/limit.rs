//! How often the same line may be said: what a client can cause at will must not fill a disk.
//!
//! A line is the same as another if it comes from the same place in the code and is about the same thing
//! ([`SUBJECTS`]). The first ones are written at once; what is left out then is counted, and told when the
//! [`WINDOW`] is over. Lines of `debug` and `trace` are not limited, because whoever turns them on wants them all.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use lipsync_core::{Foreign, sync::lock};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::telemetry::CALLS;

/// How long lines are counted before that begins anew.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines about the same thing from the same place that are written in a window.
const MAX_SAME: u32 = 5;
/// Lines from the same place, whatever they are about.
const MAX_OF_PLACE: u32 = 100;
/// Lines about finished calls that are written in a window: a thousand a second, about 0.2 MB.
const MAX_CALLS: u32 = 10_000;
/// The fields that say what a line is about. What is in them comes from the configuration, never from a
/// client, who could otherwise make every line another.
const SUBJECTS: [&str; 6] = ["model", "device", "worker", "pack", "path", "what"];

/// A place in the code, as a hash. There are only as many as the code has.
pub(super) type Place = u64;

/// Counts lines.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// Held for moments only; nothing is formatted under it.
    places: Mutex<HashMap<Place, Window>>,
}

/// What came from one place since its window began.
#[derive(Debug)]
struct Window {
    began: Instant,
    /// The first line.
    like: Said,
    n_written: u32,
    n_left_out: u64,
    /// Written lines by what they are about; not more than there are written lines.
    subjects: HashMap<u64, u32>,
}

/// Where a line comes from and what it says.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
}

/// Lines that were left out of the log.
#[derive(Debug)]
pub(super) struct LeftOut {
    pub(super) like: Said,
    pub(super) n_lines: u64,
    pub(super) time: Duration,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            like,
            n_lines,
            time,
        } = self;
        let seconds = time.as_secs_f32().ceil();
        let message = Foreign(&like.message);
        write!(f, "{n_lines} more like {message:?} in the last {seconds} s")
    }
}

impl Limit {
    /// Whether a line may be written `now`; it counts as written then.
    pub(super) fn admit(
        &self,
        place: Place,
        subject: u64,
        now: Instant,
        said: impl FnOnce() -> Said,
    ) -> bool {
        self.admit_within((MAX_SAME, MAX_OF_PLACE), (place, subject), now, said)
    }

    /// The same for a line about a finished call: each is news, so there may be many.
    fn admit_call(&self, place: Place, now: Instant, said: impl FnOnce() -> Said) -> bool {
        self.admit_within((MAX_CALLS, MAX_CALLS), (place, 0), now, said)
    }

    fn admit_within(
        &self,
        (max_same, max_of_place): (u32, u32),
        (place, subject): (Place, u64),
        now: Instant,
        said: impl FnOnce() -> Said,
    ) -> bool {
        let mut places = self.lock();
        let window = places.entry(place);
        let window = window.or_insert_with(|| Window::new(now, said()));
        // Lines left out of a past window are reported soon; until then counting goes on.
        if window.is_over(now) && window.n_left_out == 0 {
            *window = Window::new(now, window.like.clone());
        }
        let may = window.has_room(subject, max_same, max_of_place);
        if !may {
            window.n_left_out += 1;
        }
        may
    }

    /// Ends the windows that are over, or all, and gives what was left out in them.
    pub(super) fn take_left_out(&self, now: Instant, all: bool) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        self.lock().retain(|_, window| {
            let is_over = all || window.is_over(now);
            if is_over && window.n_left_out > 0 {
                left_out.push(LeftOut {
                    like: window.like.clone(),
                    n_lines: window.n_left_out,
                    time: now.saturating_duration_since(window.began),
                });
            }
            !is_over
        });
        left_out
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Window>> {
        lock(&self.places)
    }
}

impl Window {
    fn new(began: Instant, like: Said) -> Self {
        Self {
            began,
            like,
            n_written: 0,
            n_left_out: 0,
            subjects: HashMap::new(),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= WINDOW
    }

    fn has_room(&mut self, subject: u64, max_same: u32, max_of_place: u32) -> bool {
        if self.n_written >= max_of_place {
            return false;
        }
        let n_same = self.subjects.entry(subject).or_default();
        let may = *n_same < max_same;
        if may {
            *n_same += 1;
            self.n_written += 1;
        }
        may
    }
}

/// The hash of anything.
pub(super) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Limits the lines of a subscriber.
pub(super) struct LimitLayer(pub(super) std::sync::Arc<Limit>);

impl<S: Subscriber> Layer<S> for LimitLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut gist = Gist::default();
        event.record(&mut gist);
        let place = hash_of(metadata.callsite());
        let said = || Said {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: gist.message,
        };
        if metadata.target() == CALLS {
            return self.0.admit_call(place, Instant::now(), said);
        }
        let subject = gist.subjects.finish();
        self.0.admit(place, subject, Instant::now(), said)
    }
}

/// What of an event's fields counts.
#[derive(Default)]
struct Gist {
    message: String,
    subjects: DefaultHasher,
}

impl Visit for Gist {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else if SUBJECTS.contains(&field.name()) {
            format!("{value:?}").hash(&mut self.subjects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        Said {
            level: Level::WARN,
            target: "here".into(),
            message: "it broke".into(),
        }
    }

    fn admitted(limit: &Limit, subjects: impl Iterator<Item = u64>, now: Instant) -> usize {
        subjects
            .filter(|&subject| limit.admit(1, subject, now, said))
            .count()
    }

    #[test]
    fn the_first_lines_are_written_and_the_others_counted() {
        let (limit, now) = (Limit::default(), Instant::now());
        let max_same = MAX_SAME as usize;
        assert_eq!(admitted(&limit, (0..1000).map(|_| 7), now), max_same);
        // Neither another subject nor another place is kept out by it.
        assert!(limit.admit(1, 8, now, said) && limit.admit(2, 7, now, said));
        assert!(limit.take_left_out(now + WINDOW / 2, false).is_empty());
        let left_out = limit.take_left_out(now + WINDOW, false);
        let [one] = &left_out[..] else {
            panic!("{left_out:?}");
        };
        let text = format!(
            "{} more like \"it broke\" in the last 10 s",
            1000 - max_same
        );
        assert_eq!(one.to_string(), text);
        assert!(limit.lock().is_empty(), "nothing is kept of a quiet place");
        assert_eq!(
            admitted(&limit, (0..1000).map(|_| 7), now + WINDOW),
            max_same
        );
    }

    #[test]
    fn subjects_without_number_are_bounded_too() {
        let (limit, now) = (Limit::default(), Instant::now());
        assert_eq!(admitted(&limit, 0..100_000, now), MAX_OF_PLACE as usize);
        let n_kept = limit
            .lock()
            .values()
            .map(|w| w.subjects.len())
            .sum::<usize>();
        assert!(n_kept <= MAX_OF_PLACE as usize);
        assert_eq!(limit.take_left_out(now, true).len(), 1);
    }

    #[test]
    fn calls_may_be_many_but_not_without_number() {
        let (limit, now) = (Limit::default(), Instant::now());
        let n_admitted = (0..50_000)
            .filter(|_| limit.admit_call(1, now, said))
            .count();
        assert_eq!(n_admitted, MAX_CALLS as usize);
        assert_eq!(limit.take_left_out(now, true)[0].n_lines, 40_000);
    }

    #[test]
    fn a_line_now_and_then_is_always_written() {
        let (limit, now) = (Limit::default(), Instant::now());
        for k in 0..100 {
            assert!(limit.admit(1, 7, now + k * WINDOW / MAX_SAME, said), "{k}");
        }
        assert!(limit.take_left_out(now, true).is_empty());
    }

    #[test]
    fn what_is_left_out_is_told_however_late() {
        let (limit, now) = (Limit::default(), Instant::now());
        admitted(&limit, (0..10).map(|_| 7), now);
        // Nobody has asked since: the window goes on.
        assert_eq!(admitted(&limit, (0..10).map(|_| 7), now + 3 * WINDOW), 0);
        let left_out = limit.take_left_out(now + 3 * WINDOW, false);
        assert_eq!(left_out[0].n_lines, 15);
        assert_eq!(left_out[0].time, 3 * WINDOW);
    }
}
