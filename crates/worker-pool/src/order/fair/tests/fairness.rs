//! Tenants, levels and bins under load, in virtual time: workers take the time that a job's network takes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use lipsync_core::{Priority, TenantId, Weight};

use super::*;
use crate::Work;

/// Something that asks for frames.
#[derive(Clone)]
struct Sender {
    claim: Claim,
    network: usize,
    n_frames: usize,
    /// What a frame really takes.
    frame_time: Duration,
    /// Whether the order knows that beforehand.
    is_measured: bool,
    demand: Demand,
}

#[derive(Clone, Copy)]
enum Demand {
    /// As many jobs as this wait at any time.
    Backlog(usize),
    /// A job comes this long after the last one came.
    Every(Duration),
}

impl Sender {
    fn new(tenant: &str, weight: u32, demand: Demand) -> Self {
        Self {
            claim: Claim {
                tenant: TenantId::new(tenant),
                weight: Weight::new(weight).unwrap(),
                ..Claim::default()
            },
            network: 0,
            n_frames: 2,
            frame_time: 20 * MS,
            is_measured: true,
            demand,
        }
    }

    fn at(mut self, priority: Priority) -> Self {
        self.claim.priority = priority;
        self
    }

    fn runs(mut self, network: usize, n_frames: usize, frame_time: Duration) -> Self {
        (self.network, self.n_frames, self.frame_time) = (network, n_frames, frame_time);
        self
    }
}

/// What a sender saw.
#[derive(Default, Debug, Clone)]
struct Seen {
    n_sent: usize,
    n_answered: usize,
    /// Time of workers.
    compute: Duration,
    latencies: Vec<Duration>,
    /// From the job's coming to its first frame's start.
    waits: Vec<Duration>,
}

impl Seen {
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
    }
}

struct Running {
    sender: usize,
    came: Instant,
    n_left: usize,
    has_begun: bool,
}

/// Runs senders against an order for a while.
struct Scene {
    stage: Stage,
    senders: Vec<Sender>,
    seen: Vec<Seen>,
    jobs: BTreeMap<u64, Running>,
    /// When a job of a sender comes next.
    arrivals: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Batches of each worker, with what runs first; and when that ends.
    queues: Vec<Vec<Vec<Part>>>,
    ends: Vec<Option<Instant>>,
}

impl Scene {
    fn new(n_workers: usize, rules: Scheduling, senders: &[Sender]) -> Self {
        let mut stage = Stage::on_cpu(n_workers, 64);
        stage.order = FairOrder::new(BatchLimits {
            max_frames: 64,
            max_wait: Duration::ZERO,
            rules,
        });
        Self {
            stage,
            senders: senders.to_vec(),
            seen: vec![Seen::default(); senders.len()],
            jobs: BTreeMap::new(),
            arrivals: BinaryHeap::new(),
            queues: (0..n_workers).map(|_| Vec::new()).collect(),
            ends: vec![None; n_workers],
        }
    }

    fn send(&mut self, sender: usize) {
        let Sender {
            claim,
            network,
            n_frames,
            frame_time,
            is_measured,
            ..
        } = self.senders[sender].clone();
        let job = self.stage.job(Device::Cpu, network, n_frames);
        let came = self.stage.now;
        let id = self.stage.push(Entry {
            claim,
            frame_cost: is_measured.then_some(frame_time),
            ..job
        });
        self.jobs.insert(
            id.0,
            Running {
                sender,
                came,
                n_left: n_frames,
                has_begun: false,
            },
        );
        self.seen[sender].n_sent += 1;
    }

    /// Time that a batch takes.
    fn time_of(&self, parts: &[Part]) -> Duration {
        let time = |part: &Part| {
            let sender = &self.senders[self.jobs[&part.job.0].sender];
            sender.frame_time * u32::try_from(part.frames.len()).unwrap()
        };
        parts.iter().map(time).sum()
    }

    fn begin(&mut self, worker: usize) {
        let Some(parts) = self.queues[worker]
            .first()
            .filter(|_| self.ends[worker].is_none())
        else {
            return;
        };
        self.ends[worker] = Some(self.stage.now + self.time_of(parts));
        for part in parts {
            let job = self.jobs.get_mut(&part.job.0).unwrap();
            if !std::mem::replace(&mut job.has_begun, true) {
                self.seen[job.sender].waits.push(self.stage.now - job.came);
            }
        }
    }

    fn end(&mut self, worker: usize) {
        let parts = self.queues[worker].remove(0);
        self.ends[worker] = None;
        let took = self.time_of(&parts);
        for part in parts {
            let job = self.jobs.get_mut(&part.job.0).unwrap();
            let n_frames = part.frames.len();
            job.n_left -= n_frames;
            let sender = job.sender;
            let (is_whole, came) = (job.n_left == 0, job.came);
            let time = self.senders[sender].frame_time * u32::try_from(n_frames).unwrap();
            let seen = &mut self.seen[sender];
            seen.compute += time;
            if is_whole {
                seen.n_answered += 1;
                seen.latencies.push(self.stage.now - came);
                self.jobs.remove(&part.job.0);
                if matches!(self.senders[sender].demand, Demand::Backlog(_)) {
                    self.arrivals.push(Reverse((self.stage.now, sender)));
                }
            }
        }
        self.stage.roster.note_done(worker);
        self.stage.order.done(worker, took);
        self.begin(worker);
    }

    fn hand_out(&mut self) {
        for Assignment { worker, parts, .. } in self.stage.assign().0 {
            self.queues[worker].push(parts);
            self.begin(worker);
        }
    }

    fn run(mut self, time: Duration) -> Vec<Seen> {
        let over = self.stage.now + time;
        for (n, sender) in self.senders.iter().enumerate() {
            let n_first = match sender.demand {
                Demand::Backlog(n_jobs) => n_jobs,
                Demand::Every(_) => 1,
            };
            for _ in 0..n_first {
                self.arrivals.push(Reverse((self.stage.now, n)));
            }
        }
        loop {
            let arrival = self.arrivals.peek().map(|Reverse((at, _))| *at);
            let next = self.ends.iter().flatten().copied().chain(arrival).min();
            let Some(now) = next.filter(|&at| at < over) else {
                return self.seen;
            };
            self.stage.now = now;
            // Answers before what comes at the same moment.
            while let Some(worker) = self.ends.iter().position(|&end| end == Some(now)) {
                self.end(worker);
                self.hand_out();
            }
            while let Some(&Reverse((at, sender))) = self.arrivals.peek() {
                if at > now {
                    break;
                }
                self.arrivals.pop();
                if let Demand::Every(pause) = self.senders[sender].demand {
                    self.arrivals.push(Reverse((now + pause, sender)));
                }
                self.send(sender);
            }
            self.hand_out();
        }
    }
}

fn play(n_workers: usize, senders: &[Sender], time: Duration) -> Vec<Seen> {
    Scene::new(n_workers, Scheduling::default(), senders).run(time)
}

const SECOND: Duration = Duration::from_secs(1);

fn share_of(seen: &Seen, all: &[Seen]) -> f64 {
    let total: Duration = all.iter().map(|seen| seen.compute).sum();
    seen.compute.as_secs_f64() / total.as_secs_f64()
}

#[test]
fn a_tenant_that_asks_for_a_hundred_times_its_share_costs_another_nothing_but_a_running_batch() {
    // The other asks for less than a third, at times that have nothing to do with those of the first.
    for (n_workers, n_frames, frame_time, pause) in
        [(4, 4, 20 * MS, 77 * MS), (2, 8, 12 * MS, 151 * MS)]
    {
        let job = |sender: Sender, network| sender.runs(network, n_frames, frame_time);
        let small = job(Sender::new("b", 1, Demand::Every(pause)), 0);
        let alone = &play(n_workers, std::slice::from_ref(&small), 20 * SECOND)[0];
        let time_of_job = frame_time * u32::try_from(n_frames).unwrap();
        // Its share is half of the workers.
        let of_share = 2 * time_of_job / u32::try_from(n_workers).unwrap();
        let flood = job(Sender::new("a", 1, Demand::Every(of_share / 100)), 1);
        let both = play(n_workers, &[small, flood], 20 * SECOND);
        let [beside, flooding] = &both[..] else {
            panic!("two senders");
        };
        let of = format!("{n_workers} workers");
        let (n_sent, n_answered) = (beside.n_sent, beside.n_answered);
        assert!(n_answered + 1 >= n_sent, "{of}: {n_answered} of {n_sent}");
        let p99 = [alone, beside].map(|seen| seen.percentile(99));
        assert!(p99[1] <= 2 * p99[0], "{of}: {p99:?}");
        let rest =
            f64::from(u32::try_from(n_workers).unwrap()) * 20.0 - beside.compute.as_secs_f64();
        let had = flooding.compute.as_secs_f64();
        assert!(
            had > 0.97 * rest,
            "{of}: {had} of {rest} s, which nobody else wants"
        );
    }
}

#[test]
fn shares_of_compute_follow_the_weights() {
    let of = |tenant, weight| Sender::new(tenant, weight, Demand::Backlog(20));
    let senders = [
        of("a", 1).runs(0, 2, 20 * MS),
        of("b", 2).runs(1, 7, 9 * MS),
        of("c", 5).runs(2, 1, 31 * MS),
    ];
    for n_workers in [1, 2, 4] {
        let seen = play(n_workers, &senders, 10 * SECOND);
        for (seen_one, weight) in seen.iter().zip([1.0, 2.0, 5.0]) {
            let (share, due) = (share_of(seen_one, &seen), weight / 8.0);
            assert!(
                (share - due).abs() <= 0.1 * due,
                "{n_workers} workers: {share} of {due}"
            );
        }
    }
}

#[test]
fn a_network_that_was_not_measured_is_charged_what_it_took() {
    let of = |tenant, frame_time| Sender {
        is_measured: false,
        ..Sender::new(tenant, 1, Demand::Backlog(20)).runs(0, 2, frame_time)
    };
    let seen = play(2, &[of("a", MS), of("b", 40 * MS)], 10 * SECOND);
    let share = share_of(&seen[0], &seen);
    assert!((share - 0.5).abs() <= 0.05, "{share}");
}

#[test]
fn what_is_urgent_waits_for_one_batch_and_what_is_not_still_gets_a_tenth() {
    let urgent = Sender::new("a", 1, Demand::Every(333 * MS))
        .at(Priority::High)
        .runs(0, 1, 20 * MS);
    // Batches are cut to a turn, but for a frame that takes longer than that.
    for (n_frames, frame_time, batch) in [(8, 5 * MS, TURN), (2, 300 * MS, 300 * MS)] {
        let normal = Sender::new("a", 1, Demand::Backlog(50)).runs(1, n_frames, frame_time);
        let low = Sender::new("b", 1, Demand::Backlog(50))
            .at(Priority::Low)
            .runs(2, n_frames, frame_time);
        for n_workers in [1, 2, 4] {
            let senders = [urgent.clone(), normal.clone(), low.clone()];
            let seen = play(n_workers, &senders, 30 * SECOND);
            let longest = seen[0].waits.iter().max().unwrap();
            let of = format!("{n_workers} workers, batches of {batch:?}");
            assert!(*longest <= batch, "{of}: {longest:?}");
            assert!(seen[0].n_answered + 1 >= seen[0].n_sent, "{of}");
            let share = share_of(&seen[2], &seen);
            assert!((0.08..=0.12).contains(&share), "{of}: {share}");
        }
    }
}

#[test]
fn levels_below_one_that_always_has_work_get_a_tenth_each() {
    let of = |tenant, priority| Sender::new(tenant, 1, Demand::Backlog(50)).at(priority);
    let senders = [
        of("a", Priority::High),
        of("b", Priority::Normal),
        of("c", Priority::Low),
    ];
    let seen = play(2, &senders, 30 * SECOND);
    let shares: Vec<f64> = seen.iter().map(|of| share_of(of, &seen)).collect();
    for (share, due) in shares.iter().zip([0.8, 0.1, 0.1]) {
        assert!((share - due).abs() < 0.02, "{shares:?}");
    }
}

#[test]
fn sessions_go_before_calls_of_their_tenant_the_frame_that_is_due_first_first() {
    let mut stage = Stage::on_cpu(1, 64);
    let cost = Some(20 * MS);
    stage.enter(0, 1, cost);
    assert_eq!(stage.assign().0.len(), 1);
    let call = stage.enter(0, 1, cost);
    let mut live = |due_in: Option<u32>| {
        let mut job = stage.job(Device::Cpu, 0, 1);
        job.claim.work = Work::Live;
        job.claim.due = due_in.map(|n| stage.now + n * MS);
        job.frame_cost = cost;
        stage.push(job)
    };
    let [later, sooner, at_once] = [live(Some(80)), live(Some(40)), live(None)];
    let mut order = Vec::new();
    for _ in 0..4 {
        stage.done(0);
        order.extend(stage.assign().0.into_iter().map(|given| given.parts[0].job));
    }
    assert_eq!(order, [at_once, sooner, later, call]);
}

#[test]
fn calls_keep_a_tenth_beside_sessions_that_take_all() {
    let mut live = Sender::new("a", 1, Demand::Backlog(10));
    live.claim.work = Work::Live;
    let calls = Sender::new("a", 1, Demand::Backlog(10));
    let seen = play(2, &[live, calls], 20 * SECOND);
    let share = share_of(&seen[1], &seen);
    assert!((0.08..=0.12).contains(&share), "{share}");
}

#[test]
fn a_slow_network_does_not_make_a_fast_one_late_and_without_bins_it_does() {
    let fast = Sender::new("a", 1, Demand::Every(67 * MS)).runs(0, 2, 30 * MS);
    let slow = Sender::new("b", 1, Demand::Backlog(30)).runs(1, 4, 300 * MS);
    let p95 = |seen: &[Seen]| seen[0].percentile(95);
    let alone = p95(&play(4, std::slice::from_ref(&fast), 60 * SECOND));
    let both = [fast, slow];
    let beside = Scene::new(4, Scheduling::default(), &both).run(60 * SECOND);
    let unlimited = Scene::new(4, Scheduling::unlimited(), &both).run(60 * SECOND);
    let figures = [alone, p95(&beside), p95(&unlimited)];
    assert!(figures[1] <= alone * 13 / 10, "{figures:?}");
    assert!(figures[2] > alone * 13 / 10, "{figures:?}");
    assert!(beside[1].n_answered > 20, "the slow one goes on");
}

#[test]
fn with_one_worker_or_two_every_bin_goes_on() {
    let of = |tenant: &str, network, frame_ms: u32| {
        Sender::new(tenant, 1, Demand::Backlog(5)).runs(network, 2, frame_ms * MS)
    };
    let senders = [of("a", 0, 10), of("b", 1, 200), of("c", 2, 700)];
    for n_workers in [1, 2, 3] {
        let seen = play(n_workers, &senders, 60 * SECOND);
        for seen in seen {
            assert!(
                seen.compute >= 3 * SECOND,
                "{n_workers} workers: {:?}",
                seen.compute
            );
        }
    }
}

#[test]
fn of_the_heaviest_networks_one_runs_at_a_time_and_each_has_its_turn() {
    let rules = Scheduling::default();
    let mut stage = Stage::on_cpu(4, 64);
    let heavy = rules.size_classes_macs[2];
    let push = |stage: &mut Stage, network, n_frames| {
        let mut job = stage.job(Device::Cpu, network, n_frames);
        (job.macs, job.frame_cost) = (heavy, Some(50 * MS));
        stage.push(job)
    };
    let first = push(&mut stage, 0, 400);
    let second = push(&mut stage, 1, 400);
    let given = |stage: &mut Stage| -> Vec<JobId> {
        stage
            .assign()
            .0
            .iter()
            .map(|given| given.parts[0].job)
            .collect()
    };
    assert_eq!(given(&mut stage), [first; 4]);
    let mut turns = Vec::new();
    for _ in 0..60 {
        stage.now += 100 * MS;
        // All workers end their batch at the same moment.
        (0..4).for_each(|worker| stage.done(worker));
        let jobs = given(&mut stage);
        assert!(
            jobs.windows(2).all(|pair| pair[0] == pair[1]),
            "one at a time"
        );
        turns.extend(jobs.first().copied());
    }
    let n_second = turns.iter().filter(|&&job| job == second).count();
    assert!(
        (20..=40).contains(&n_second),
        "{n_second} of {}",
        turns.len()
    );
}

#[test]
fn ten_thousand_tenants_cost_little() {
    let mut stage = Stage::on_cpu(2, 64);
    let n_tenants: u32 = 10_000;
    let jobs: Vec<Entry> = (0..n_tenants)
        .map(|n| {
            let mut job = stage.job(Device::Cpu, 0, 1);
            job.claim.tenant = TenantId::new(&format!("tenant-{n}"));
            job.frame_cost = Some(20 * MS);
            job
        })
        .collect();
    let start = Instant::now();
    for job in jobs {
        stage.push(job);
    }
    let mut n_given = 0;
    while n_given < n_tenants {
        n_given += u32::try_from(stage.assign().0.len()).unwrap();
        (0..2).for_each(|worker| stage.done(worker));
    }
    // Generous: an unoptimised build on a loaded machine. It finds what is quadratic.
    let each = start.elapsed() / n_tenants;
    assert!(each < 2 * MS, "{each:?} a job");
}
