//! The order without threads: jobs and workers are values, and so is the time.

use proptest::prelude::*;

use super::{
    super::{
        Part,
        policy::{MAX_LOAD, QUIET, TURN},
    },
    *,
};
use crate::{Claim, roster::WorkerHandle, task::Batch};

const GPU: Device = Device::Cuda(0);
const MS: Duration = Duration::from_millis(1);

/// An order, and workers that run nothing.
struct Stage {
    order: FairOrder,
    roster: Roster,
    now: Instant,
    n_jobs: u64,
}

impl Stage {
    fn new(devices: &[Device], max_frames: usize, max_wait: Duration) -> Self {
        let mut roster = Roster::default();
        for &device in devices {
            let seat = roster.reserve(device).unwrap();
            roster.admit(seat.number).unwrap();
        }
        let limits = BatchLimits {
            max_frames,
            max_wait,
            rules: Scheduling::default(),
        };
        Self {
            order: FairOrder::new(limits),
            roster,
            now: Instant::now(),
            n_jobs: 0,
        }
    }

    fn on_cpu(n_workers: usize, max_frames: usize) -> Self {
        Self::new(&vec![Device::Cpu; n_workers], max_frames, Duration::ZERO)
    }

    fn job(&mut self, device: Device, network: usize, n_frames: usize) -> Entry {
        self.n_jobs += 1;
        Entry {
            id: JobId(self.n_jobs - 1),
            network: NetworkId(network),
            device,
            n_frames,
            claim: Claim::default(),
            submitted_at: self.now,
            frame_cost: None,
            macs: 0,
        }
    }

    /// A worker is done with its first batch, as the dispatcher says it.
    fn done(&mut self, worker: usize) {
        self.roster.note_done(worker);
        self.order.done(worker, MS);
    }

    fn push(&mut self, job: Entry) -> JobId {
        let id = job.id;
        self.order.push(job, self.now, &self.roster);
        id
    }

    fn enter(&mut self, network: usize, n_frames: usize, frame_cost: Option<Duration>) -> JobId {
        let job = self.job(Device::Cpu, network, n_frames);
        self.push(Entry { frame_cost, ..job })
    }

    fn enter_on_gpu(&mut self, network: usize, n_frames: usize) -> JobId {
        let job = self.job(GPU, network, n_frames);
        self.push(job)
    }

    /// All that is assigned now, and until when the rest may wait.
    fn assign(&mut self) -> (Vec<Assignment>, Option<Instant>) {
        let mut all = Vec::new();
        loop {
            match self.order.next(self.now, &self.roster) {
                Decision::Wait(until) => return (all, until),
                Decision::Assign(assignment) => {
                    let chunks = Vec::new();
                    self.roster.hand(assignment.worker, Batch { chunks });
                    drop(self.roster.take_waiting());
                    all.push(assignment);
                }
            }
        }
    }

    /// What workers are given now: for each, the first frame and the number of each chunk.
    fn hand_out(&mut self) -> Vec<Vec<(usize, usize)>> {
        let n_workers = self.roster.figures().len();
        let mut given = vec![Vec::new(); n_workers];
        for Assignment { worker, parts, .. } in self.assign().0 {
            let frames = &parts[0].frames;
            given[worker].push((frames.start, frames.len()));
        }
        given
    }
}

#[test]
fn a_slow_network_leaves_workers_to_others_and_has_nothing_queued_behind_it() {
    let mut stage = Stage::on_cpu(4, 64);
    let (slow, quick) = (0, 1);
    stage.enter(quick, 1, None);
    assert_eq!(stage.hand_out(), [vec![(0, 1)], vec![], vec![], vec![]]);
    stage.enter(slow, 8, Some(8 * TURN));
    // Two of four workers, a frame each.
    let alone = |n| vec![(n, 1)];
    assert_eq!(stage.hand_out(), [vec![], alone(0), alone(1), vec![]]);
    // The idle worker first; then what is quick queues, and nowhere else.
    stage.enter(quick, 4, None);
    let [queued, idle] = [vec![(1, 1)], vec![(0, 1), (2, 1)]];
    assert_eq!(stage.hand_out(), [queued, vec![], vec![], idle]);
    stage.done(1);
    assert_eq!(stage.hand_out(), [vec![], alone(2), vec![], vec![]]);
    // What is quick has not come for a while.
    stage.now += QUIET;
    stage.done(0);
    stage.done(0);
    assert_eq!(stage.hand_out(), [alone(3), vec![], vec![], vec![]]);
}

#[test]
fn chunks_are_cut_by_what_a_frame_takes() {
    let mut stage = Stage::on_cpu(2, 64);
    stage.enter(0, 32, None);
    assert_eq!(stage.hand_out(), [vec![(0, 16)], vec![(16, 16)]]);
    for worker in [0, 1] {
        stage.done(worker);
    }
    stage.enter(0, 32, Some(TURN / 3));
    // Nothing is queued behind chunks that take this long.
    assert_eq!(stage.hand_out(), [vec![(0, 3)], vec![(3, 3)]]);
    stage.done(1);
    assert_eq!(stage.hand_out(), [vec![], vec![(6, 3)]]);
}

#[test]
fn alone_a_slow_network_has_all_workers() {
    let mut stage = Stage::on_cpu(3, 64);
    stage.enter(0, 9, Some(8 * TURN));
    let alone = |n| vec![(n, 1)];
    assert_eq!(stage.hand_out(), [alone(0), alone(1), alone(2)]);
    stage.done(2);
    assert_eq!(stage.hand_out(), [vec![], vec![], alone(3)]);
}

#[test]
fn a_held_batch_goes_when_it_is_full_or_late_or_a_worker_is_idle() {
    let mut stage = Stage::new(&[GPU], 8, 10 * MS);
    let first = stage.enter_on_gpu(7, 1);
    let part = |job, n_frames| Part {
        job,
        frames: 0..n_frames,
    };
    let batch = |parts, closed| Assignment {
        worker: 0,
        parts,
        closed: Some(closed),
    };
    let (given, wake) = stage.assign();
    assert_eq!(given, [batch(vec![part(first, 1)], Closed::Idle)]);
    assert_eq!(wake, None);

    let held = stage.enter_on_gpu(7, 2);
    let end = stage.now + 10 * MS;
    assert_eq!(stage.assign(), (vec![], Some(end)));
    stage.now += 9 * MS;
    let joins = stage.enter_on_gpu(7, 3);
    assert_eq!(stage.assign(), (vec![], Some(end)), "of the oldest");
    stage.now = end;
    let both = vec![part(held, 2), part(joins, 3)];
    assert_eq!(stage.assign().0, [batch(both, Closed::WaitOver)]);

    // The worker has two. One more comes free, and then eight frames are there.
    stage.done(0);
    let small = stage.enter_on_gpu(7, 3);
    assert_eq!(stage.assign().0, []);
    let large = stage.enter_on_gpu(7, 9);
    let full = batch(vec![part(small, 3)], Closed::Full);
    assert_eq!(stage.assign().0, [full], "the next does not fit");
    stage.order.forget(large);
    for _ in 0..2 {
        stage.done(0);
    }
    assert_eq!(stage.assign(), (vec![], None), "nothing is left");
}

#[test]
fn a_deadline_ends_the_wait_for_others() {
    let mut stage = Stage::new(&[GPU], 8, 10 * MS);
    stage.enter_on_gpu(7, 1);
    assert_eq!(stage.assign().0.len(), 1);
    let mut urgent = stage.job(GPU, 7, 1);
    urgent.claim.deadline = Some(stage.now + 5 * MS);
    stage.push(urgent);
    assert_eq!(stage.assign().0.len(), 1);
}

#[test]
fn who_wants_no_batch_with_others_waits_for_nobody_and_has_one_alone() {
    let mut stage = Stage::new(&[GPU], 8, 10 * MS);
    stage.enter_on_gpu(7, 1);
    assert_eq!(stage.assign().0.len(), 1);
    let shares = stage.enter_on_gpu(7, 2);
    let mut alone = stage.job(GPU, 7, 3);
    alone.claim.runs_alone = true;
    let alone = stage.push(alone);
    let jobs = |given: Vec<Assignment>| -> Vec<Vec<JobId>> {
        let of = |given: &Assignment| given.parts.iter().map(|part| part.job).collect();
        given.iter().map(of).collect()
    };
    // The others are held back for more to come.
    assert_eq!(jobs(stage.assign().0), [vec![alone]]);
    let joins = stage.enter_on_gpu(7, 1);
    stage.now += 10 * MS;
    stage.done(0);
    assert_eq!(jobs(stage.assign().0), [vec![shares, joins]]);
}

#[test]
fn batches_can_be_limited_and_the_limit_taken_back() {
    let mut stage = Stage::new(&[GPU], 8, Duration::ZERO);
    let frames = |stage: &mut Stage| -> Vec<usize> {
        let given = stage.assign().0;
        given
            .iter()
            .map(|given| given.parts[0].frames.len())
            .collect()
    };
    let waits = stage.enter_on_gpu(7, 8);
    stage.order.limit_batches(2);
    let comes = stage.enter_on_gpu(7, 8);
    assert_eq!(frames(&mut stage), [2, 2], "the one that waited, too");
    for job in [waits, comes] {
        stage.order.forget(job);
    }
    stage.order.limit_batches(usize::MAX);
    stage.done(0);
    stage.done(0);
    stage.enter_on_gpu(9, 20);
    assert_eq!(frames(&mut stage), [8, 8]);
}

#[test]
fn workers_that_join_take_their_part_and_those_that_leave_get_nothing() {
    let mut stage = Stage::on_cpu(1, 1);
    stage.enter(0, 9, None);
    assert_eq!(stage.hand_out(), [[(0, 1), (1, 1)]]);
    let seat = stage.roster.reserve(Device::Cpu).unwrap();
    assert_eq!(stage.hand_out(), [[], []], "it gets ready");
    stage.roster.admit(seat.number).unwrap();
    assert_eq!(stage.hand_out(), [vec![], vec![(2, 1), (3, 1)]]);
    stage.roster.dismiss(0);
    for worker in [0, 0, 1] {
        stage.done(worker);
    }
    assert_eq!(stage.hand_out(), [vec![], vec![(4, 1)]]);
    // The seat is taken by somebody for another device neither.
    drop(stage.roster.vacate(0));
    assert_eq!(stage.roster.reserve(GPU).unwrap().number, 2);
    assert_eq!(stage.roster.reserve(Device::Cpu).unwrap().number, 0);
    stage.roster.admit(0).unwrap();
    assert_eq!(stage.hand_out(), [vec![(5, 1), (6, 1)], vec![], vec![]]);
}

/// What happens to an order.
#[derive(Debug, Clone)]
enum Happening {
    Job {
        network: usize,
        n_frames: usize,
        cost_ms: Option<u64>,
    },
    Done(usize),
    Forget(u64),
    Join(usize),
    Leave(usize),
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let job = (0..4_usize, 1..40_usize, prop::option::of(1..300_u64));
    prop_oneof![
        4 => job.prop_map(|(network, n_frames, cost_ms)| Happening::Job { network, n_frames, cost_ms }),
        6 => (0..8_usize).prop_map(Happening::Done),
        1 => (0..60_u64).prop_map(Happening::Forget),
        1 => (0..2_usize).prop_map(Happening::Join),
        1 => (0..8_usize).prop_map(Happening::Leave),
        2 => (0..6_000_u64).prop_map(Happening::Pass),
    ]
}

/// Networks 0 and 1 run on the CPU, 2 and 3 on a GPU.
fn device_of(network: usize) -> Device {
    [Device::Cpu, GPU][network / 2]
}

/// What a job was given, and what it has.
struct Progress {
    network: usize,
    n_frames: usize,
    n_given: usize,
    is_forgotten: bool,
}

impl Stage {
    fn happen(&mut self, happening: &Happening, jobs: &mut [Progress]) {
        match *happening {
            Happening::Job { .. } => unreachable!("it is entered"),
            Happening::Done(worker) => {
                if worker < self.roster.figures().len() {
                    self.done(worker);
                }
            }
            Happening::Forget(job) => {
                if let Some(progress) = jobs.get_mut(usize::try_from(job).unwrap()) {
                    progress.is_forgotten = true;
                    self.order.forget(JobId(job));
                }
            }
            Happening::Join(device) => {
                let seat = self.roster.reserve([Device::Cpu, GPU][device]).unwrap();
                self.roster.admit(seat.number).unwrap();
            }
            Happening::Leave(worker) => self.leave(worker),
            Happening::Pass(n_ms) => self.now += Duration::from_millis(n_ms),
        }
    }

    /// Workers leave as the dispatcher lets them: not the last. Their batches are soon done.
    fn leave(&mut self, worker: usize) {
        let device = self.roster.device_of(worker);
        if device.is_some_and(|device| self.roster.on(device).count() > 1) {
            self.roster.dismiss(worker);
            drop(self.roster.vacate(worker));
            self.order.gone(worker);
        }
    }

    fn load(&self, worker: usize) -> usize {
        let device = self.roster.device_of(worker).expect("it is here");
        let mut workers = self.roster.on(device);
        let found = workers.find(|of| of.number() == worker);
        found.map_or(0, WorkerHandle::load)
    }

    /// Checks what is assigned against what the trait promises.
    fn check_assigned(&mut self, jobs: &mut [Progress]) {
        loop {
            let Decision::Assign(given) = self.order.next(self.now, &self.roster) else {
                return;
            };
            let device = self.roster.device_of(given.worker).expect("it is here");
            let mut networks = Vec::new();
            for Part { job, frames } in &given.parts {
                let progress = &mut jobs[usize::try_from(job.0).unwrap()];
                assert!(!progress.is_forgotten, "a forgotten job is given frames");
                assert_eq!(frames.start, progress.n_given, "in order, and each once");
                assert!(!frames.is_empty() && frames.end <= progress.n_frames);
                assert_eq!(device_of(progress.network), device);
                progress.n_given = frames.end;
                networks.push(progress.network);
            }
            networks.dedup();
            assert_eq!(networks.len(), 1, "one network a batch");
            let n_frames: usize = given.parts.iter().map(|part| part.frames.len()).sum();
            assert!(n_frames <= 16, "no batch is too large");
            assert!(given.parts.len() == 1 || device == GPU);
            assert!(self.load(given.worker) < MAX_LOAD, "there is room");
            let chunks = Vec::new();
            self.roster.hand(given.worker, Batch { chunks });
            drop(self.roster.take_waiting());
        }
    }
}

proptest! {
    #[test]
    fn every_frame_is_given_once_whoever_comes_and_goes(
        happenings in prop::collection::vec(happening(), 1..120),
    ) {
        let devices = [Device::Cpu, Device::Cpu, GPU];
        let mut stage = Stage::new(&devices, 16, 2 * MS);
        let mut jobs = Vec::new();
        for happening in &happenings {
            if let Happening::Job { network, n_frames, cost_ms } = *happening {
                let job = stage.job(device_of(network), network, n_frames);
                let frame_cost = cost_ms.map(Duration::from_millis);
                stage.push(Entry { frame_cost, ..job });
                let progress = Progress { network, n_frames, n_given: 0, is_forgotten: false };
                jobs.push(progress);
            } else {
                stage.happen(happening, &mut jobs);
            }
            stage.check_assigned(&mut jobs);
        }
        // Workers that go on working come to the end of it.
        while jobs.iter().any(|job| !job.is_forgotten && job.n_given < job.n_frames) {
            let n_given: usize = jobs.iter().map(|job| job.n_given).sum();
            stage.now += QUIET;
            for worker in 0..stage.roster.figures().len() {
                // It may hold two, with nothing to be queued behind them.
                stage.done(worker);
                stage.done(worker);
            }
            stage.check_assigned(&mut jobs);
            let n_now: usize = jobs.iter().map(|job| job.n_given).sum();
            prop_assert!(n_now > n_given, "somebody waits for ever");
        }
        prop_assert!(stage.order.lanes.iter().all(|lane| lane.jobs.is_empty()));
    }
}

mod fairness;
