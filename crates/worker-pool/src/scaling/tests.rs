//! Loads and devices in virtual time: what a device does with a number of workers is a curve.

use std::collections::VecDeque;

use super::*;

/// Jobs of a second's load, all workers together.
type Curve = fn(usize) -> f64;

/// A device that does as many jobs a second as its curve says, and jobs that come to it.
struct Bench {
    curve: Curve,
    n_workers: usize,
    now: Duration,
    /// When each batch that runs ends, and when its job came.
    running: Vec<(Duration, Duration)>,
    /// When each job that waits came.
    waiting: VecDeque<Duration>,
    /// Fractions of jobs that have not come yet.
    rest: f64,
    look: Look,
    n_sent: u64,
    n_done: u64,
    noise: u64,
}

const STEP: Duration = Duration::from_millis(5);

impl Bench {
    fn new(curve: Curve, n_workers: usize) -> Self {
        Self {
            curve,
            n_workers,
            now: Duration::ZERO,
            running: Vec::new(),
            waiting: VecDeque::new(),
            rest: 0.0,
            look: Look::default(),
            n_sent: 0,
            n_done: 0,
            noise: 7,
        }
    }

    /// Between 0.9 and 1.1, the same in each run.
    fn noise(&mut self) -> f64 {
        self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005) + 1;
        0.9 + 0.2 * f64::from((self.noise >> 40) as u32) / f64::from(1_u32 << 24)
    }

    /// A second, in which this many jobs come; `None`: more than can be done.
    fn second(&mut self, jobs_per_s: Option<f64>) -> Look {
        let end = self.now + LOOK_INTERVAL;
        while self.now < end {
            self.now += STEP;
            match jobs_per_s {
                Some(rate) => self.rest += rate * STEP.as_secs_f64(),
                None => self.rest = (50_usize.saturating_sub(self.waiting.len())) as f64,
            }
            while self.rest >= 1.0 {
                self.rest -= 1.0;
                self.n_sent += 1;
                self.waiting.push_back(self.now);
            }
            while let Some(place) = self.first_to_end() {
                let (ended, came) = self.running.swap_remove(place);
                self.n_done += 1;
                self.look.lasted += ended - came;
                self.begin(ended);
            }
            self.begin(self.now);
        }
        Look {
            now: self.now,
            n_workers: self.n_workers,
            work: self.n_done as f64,
            n_done: self.n_done,
            n_waiting: self.waiting.len(),
            ..self.look
        }
    }

    fn first_to_end(&self) -> Option<usize> {
        let running = self.running.iter().enumerate();
        let (place, (ends, _)) = running.min_by_key(|(_, (ends, _))| *ends)?;
        (*ends <= self.now).then_some(place)
    }

    /// What can begin at this moment.
    fn begin(&mut self, at: Duration) {
        while self.running.len() < self.n_workers {
            let Some(came) = self.waiting.front().copied().filter(|&came| came <= at) else {
                return;
            };
            self.waiting.pop_front();
            let n_busy = self.running.len() + 1;
            let seconds = n_busy as f64 / (self.curve)(n_busy) * self.noise();
            let took = Duration::from_secs_f64(seconds);
            self.running.push((at + took, came));
            self.look.n_begun += 1;
            self.look.waited += at - came;
            self.look.busy += took;
        }
    }
}

/// Linear up to six workers, and no more from there on.
fn knee(n: usize) -> f64 {
    20.0 * n.min(6) as f64
}

fn flat(_: usize) -> f64 {
    60.0
}

/// Best with five workers; each further one costs a tenth of that.
fn peak(n: usize) -> f64 {
    let best = 20.0 * n.min(5) as f64;
    best * (1.0 - 0.1 * n.saturating_sub(5) as f64).max(0.1)
}

/// What a fixed number of workers does under full load, jobs a second.
fn fixed(curve: Curve, n_workers: usize) -> f64 {
    let mut bench = Bench::new(curve, n_workers);
    for _ in 0..10 {
        bench.second(None);
    }
    let before = bench.n_done;
    for _ in 0..60 {
        bench.second(None);
    }
    (bench.n_done - before) as f64 / 60.0
}

const MAX: usize = 12;

#[test]
fn it_ends_within_five_percent_of_the_best_fixed_number_whatever_the_curve() {
    let curves: [(&str, Curve); 3] = [("knee", knee), ("flat", flat), ("peak", peak)];
    for (name, curve) in curves {
        let rates = (1..=MAX).map(|n| fixed(curve, n));
        let best = rates.fold(0.0, f64::max);
        for start in [1, 2, 4, MAX] {
            let mut bench = Bench::new(curve, start);
            let mut scaler = Scaler::new(WorkerRange { min: 1, max: MAX });
            let mut late = 0;
            for second in 0..1200 {
                if second == 600 {
                    late = bench.n_done;
                }
                if let Some(change) = scaler.look(bench.second(None)) {
                    bench.n_workers = change.to;
                }
            }
            let rate = (bench.n_done - late) as f64 / 600.0;
            let n = bench.n_workers;
            assert!(
                rate >= 0.95 * best,
                "{name} from {start}: {rate} of {best} with {n}"
            );
            let ends = fixed(curve, n);
            assert!(ends >= 0.95 * best, "{name} from {start}: {n}, {ends}");
        }
    }
}

#[test]
fn workers_come_with_a_wave_and_go_with_it() {
    let linear = |n: usize| 20.0 * n as f64;
    let mut bench = Bench::new(linear, 2);
    let mut scaler = Scaler::new(WorkerRange { min: 2, max: 8 });
    let mut seen = Vec::new();
    for second in 0..600 {
        let rate = match second {
            100..300 => 120.0,
            _ => 15.0,
        };
        if let Some(change) = scaler.look(bench.second(Some(rate))) {
            assert_eq!(change.from, bench.n_workers);
            bench.n_workers = change.to;
            seen.push((second, change));
        }
        match second {
            0..100 => assert_eq!(bench.n_workers, 2, "{seen:?}"),
            230..300 => assert_eq!(bench.n_workers, 8, "at {second}: {seen:?}"),
            500.. => assert_eq!(bench.n_workers, 2, "{seen:?}"),
            _ => {}
        }
    }
    let n_open = (bench.waiting.len() + bench.running.len()) as u64;
    assert_eq!(bench.n_sent, bench.n_done + n_open, "nothing is lost");
    assert!(n_open < 3, "nothing is left");
    assert!(seen.len() < 10, "it does not go to and fro: {seen:?}");
}

#[test]
fn a_load_that_workers_carry_moves_nobody() {
    let linear = |n: usize| 20.0 * n as f64;
    let mut bench = Bench::new(linear, 4);
    let mut scaler = Scaler::new(WorkerRange { min: 1, max: 16 });
    for second in 0..600 {
        // Sixty percent.
        let change = scaler.look(bench.second(Some(48.0)));
        assert_eq!(change, None, "at {second}");
    }
}

#[test]
fn jobs_that_are_cut_for_all_workers_get_more_and_keep_them() {
    // A job a second, of eight frames that take 20 ms each.
    let mut scaler = Scaler::new(WorkerRange { min: 2, max: 16 });
    let (mut n_workers, mut look) = (2, Look::default());
    let mut seen = Vec::new();
    for second in 1..600 {
        let frames = 8_usize.div_ceil(n_workers);
        let time = Duration::from_millis(20) * u32::try_from(frames).unwrap();
        look = Look {
            now: LOOK_INTERVAL * second,
            n_workers,
            work: look.work + 8.0,
            busy: look.busy + Duration::from_millis(160),
            n_begun: look.n_begun + 1,
            n_done: look.n_done + 1,
            lasted: look.lasted + time,
            n_wide: look.n_wide + u64::from(n_workers <= 8),
            ..look
        };
        if let Some(change) = scaler.look(look) {
            n_workers = change.to;
            seen.push((second, change));
        }
    }
    assert_eq!(n_workers, 8, "{seen:?}");
    assert!(seen.len() < 20, "{seen:?}");
}

#[test]
fn trials_that_gain_nothing_become_rare() {
    let mut bench = Bench::new(flat, 1);
    let mut scaler = Scaler::new(WorkerRange { min: 1, max: 4 });
    let mut n_changes = [0, 0];
    for second in 0..7200 {
        if let Some(change) = scaler.look(bench.second(None)) {
            bench.n_workers = change.to;
            n_changes[usize::from(second >= 3600)] += 1;
        }
    }
    assert!(n_changes[1] <= 30, "{n_changes:?}");
    assert!(n_changes[1] < n_changes[0], "{n_changes:?}");
}

#[test]
fn numbers_out_of_the_range_are_put_right_and_what_is_expected_comes_first() {
    let mut scaler = Scaler::new(WorkerRange { min: 2, max: 4 });
    let look = |n_workers, n_expected| Look {
        n_workers,
        n_expected,
        ..Look::default()
    };
    let to = |change: Option<Change>| change.map(|change| (change.to, change.reason));
    assert_eq!(to(scaler.look(look(1, 0))), Some((2, Reason::Range)));
    assert_eq!(to(scaler.look(look(9, 0))), Some((4, Reason::Range)));
    assert_eq!(to(scaler.look(look(2, 3))), Some((3, Reason::Expected)));
    assert_eq!(to(scaler.look(look(3, 99))), Some((4, Reason::Expected)));
    assert_eq!(to(scaler.look(look(4, 99))), None);
    let upside_down = Scaler::new(WorkerRange { min: 3, max: 0 });
    assert_eq!(upside_down.range, WorkerRange { min: 3, max: 3 });
    assert_eq!(wanted(0.0), 1);
    assert_eq!(wanted(2.0), 4);
}
