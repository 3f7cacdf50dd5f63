//! Workers that join and leave while the pool runs.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use lipsync_engine::MakeRoom;

use super::{
    fake::{self, Act, Fake},
    *,
};

/// Waits until nobody has this number.
fn until_left(pool: &WorkerPool, worker: usize) {
    until(|| !pool.stats().workers[worker].is_here);
}

fn no_such_worker(result: Result<(), PoolError>) -> bool {
    matches!(result, Err(PoolError::NoSuchWorker { .. }))
}

#[test]
fn who_joins_is_given_jobs_and_who_leaves_is_not() {
    let pool = pool(1, 8, 8);
    let (gated, calls) = Fake::gated();
    let held = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let call = calls.next();
    assert_eq!(pool.join_worker(Device::Cpu).unwrap(), 1);
    assert_eq!(pool.stats().n_workers(), 2);
    let fake = Arc::new(Fake::default());
    for _ in 0..3 {
        assert_eq!(run(&pool, fake::job(&fake, 1..2)).timings.workers, [1]);
    }
    call.go(Act::Succeed);
    wait(held).unwrap();

    pool.leave_worker(0).unwrap();
    assert!(no_such_worker(pool.leave_worker(0)), "it leaves already");
    until_left(&pool, 0);
    assert!(no_such_worker(pool.leave_worker(0)));
    assert!(no_such_worker(pool.leave_worker(7)));
    for _ in 0..3 {
        assert_eq!(run(&pool, fake::job(&fake, 1..3)).timings.workers, [1]);
    }
    let stats = pool.stats();
    assert_eq!((stats.n_workers(), stats.workers.len()), (1, 2));
    assert_eq!(stats.workers[0].batches, 1, "what it did still counts");
    assert_eq!(stats.workers[1].frames, 3 + 6);
}

#[test]
fn a_number_that_was_left_is_taken_again_and_its_figures_go_on() {
    let pool = start(PoolConfig {
        devices: vec![Device::Cpu, GPU, Device::Cpu],
        queue_capacity: 8,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let fake = Arc::new(Fake::default());
    assert_eq!(run(&pool, fake::job(&fake, 0..4)).timings.workers, [0, 2]);
    for worker in [2, 1] {
        pool.leave_worker(worker).unwrap();
        until_left(&pool, worker);
    }
    // The number of a worker on the GPU is none for the CPU.
    let joined = [0; 3].map(|_| pool.join_worker(Device::Cpu).unwrap());
    assert_eq!(joined, [2, 3, 4]);
    assert_eq!(pool.join_worker(GPU).unwrap(), 1);
    assert_eq!(pool.stats().workers[2].frames, 2);
    let workers = run(&pool, fake::job(&fake, 0..4)).timings.workers;
    assert_eq!(workers, [0, 2, 3, 4]);
    assert_eq!(pool.stats().workers[2].frames, 3);
}

#[test]
fn who_leaves_finishes_what_it_holds_and_gives_its_memory_back() {
    let room: Arc<dyn MakeRoom> = Arc::new(());
    let config = PoolConfig {
        devices: vec![Device::Cpu; 2],
        queue_capacity: 8,
        max_batch_frames: 1,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    };
    let pool = WorkerPool::start(config, Arc::clone(&room)).unwrap();
    let n_holders = || Arc::strong_count(&room);
    let n_before = n_holders();
    let (gated, calls) = Fake::gated();
    let job = pool.submit(fake::job(&gated, 0..6)).unwrap();
    let mut running = [calls.next(), calls.next()];
    running.sort_by_key(|call| call.thread.clone());
    // Each holds a chunk that runs and one that waits; two are left.
    until(|| pool.stats().queue_depth == 1);
    pool.leave_worker(0).unwrap();
    assert!(pool.stats().workers[0].is_here, "it is not through");
    let [leaves, stays] = running;
    leaves.go(Act::Succeed);
    let last = calls.next();
    assert_eq!(last.thread, "lipsync-worker-0");
    last.go(Act::Succeed);
    until_left(&pool, 0);
    stays.go(Act::Succeed);
    for _ in 0..3 {
        let call = calls.next();
        assert_eq!(call.thread, "lipsync-worker-1");
        call.go(Act::Succeed);
    }
    assert_eq!(wait(job).unwrap().faces, fake::faces(0..6));
    assert_eq!(gated.n_calls(), 6, "nothing is run twice");
    // What a worker has of the pool goes with its workspace and its arenas.
    assert_eq!(n_holders(), n_before - 1);
    let frames = pool.stats().workers.iter().map(|w| w.frames).sum::<u64>();
    assert_eq!(frames, 6);
}

#[test]
fn the_last_of_a_device_stays_while_jobs_wait_for_it() {
    let pool = start(PoolConfig {
        devices: vec![Device::Cpu, GPU],
        queue_capacity: 8,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let (gated, calls) = Fake::gated();
    let running = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let call = calls.next();
    let fake = Arc::new(Fake::default());
    let job = |id| fake::job(&fake, id..id + 1);
    let mut others: Vec<_> = (1..3).map(|id| pool.submit(job(id)).unwrap()).collect();
    // One of them waits, wherever the dispatcher is with them.
    let refused = pool.leave_worker(0).unwrap_err();
    let device = Device::Cpu;
    assert!(
        matches!(refused, PoolError::LastWorker { worker: 0, device: d } if d == device),
        "{refused:?}"
    );
    pool.leave_worker(1).unwrap();
    drop(others.pop());
    // What is at the worker already waits no more.
    pool.leave_worker(0).unwrap();
    let refused = pool.submit(job(9)).unwrap_err();
    assert!(matches!(refused, PoolError::NoWorker { device: d } if d == device));
    call.go(Act::Succeed);
    wait(running).unwrap();
    wait(others.remove(0)).unwrap();
    until_left(&pool, 0);
    assert_eq!(pool.stats().n_workers(), 0);

    assert_eq!(pool.join_worker(device).unwrap(), 0);
    assert_eq!(run(&pool, job(9)).faces, fake::faces(9..10));
    assert_adds_up(&pool.stats());
}

#[test]
fn a_panic_while_it_leaves_fails_its_job_alone() {
    let pool = pool(2, 8, 8);
    let (gated, calls) = Fake::gated();
    let doomed = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let call = calls.next();
    assert_eq!(call.thread, "lipsync-worker-0");
    let other = pool.submit(fake::job(&gated, 1..2)).unwrap();
    let elsewhere = calls.next();
    let fake = Arc::new(Fake::default());
    let behind = pool.submit(fake::job(&fake, 2..3)).unwrap();
    until(|| pool.stats().queue_depth == 0);
    pool.leave_worker(0).unwrap();
    call.go(Act::Panic);
    assert!(matches!(wait(doomed), Err(PoolError::Panicked)));
    // What was next at the worker is still its.
    assert_eq!(wait(behind).unwrap().timings.workers, [0]);
    until_left(&pool, 0);
    elsewhere.go(Act::Succeed);
    wait(other).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.completed), (1, 2));
    assert_eq!(stats.workers[0].restarts, 1);
    assert_eq!(run(&pool, fake::job(&fake, 3..4)).timings.workers, [1]);
}

/// Says when it is asked for memory, and waits until it is told to go on: so a test can hold a warm-up.
struct Held {
    asked: Sender<()>,
    go: Receiver<()>,
}

impl MakeRoom for Held {
    fn make_room(&self, _: Device, _: u64) -> bool {
        // A test that has failed listens no more; its pool must still come down.
        let _ = self.asked.send(());
        let _ = self.go.recv();
        false
    }
}

fn gpus(n: usize) -> PoolConfig {
    PoolConfig {
        devices: vec![GPU; n],
        queue_capacity: 8,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    }
}

#[test]
fn who_leaves_during_a_warm_up_finishes_it_and_keeps_nobody() {
    let ((asked_tx, asked), (go_tx, go)) = (bounded(8), bounded(8));
    let room = Arc::new(Held {
        asked: asked_tx,
        go,
    });
    let pool = WorkerPool::start(gpus(2), room).unwrap();
    let small: Arc<Fake> = Fake::with_capacity(&Arc::new(AtomicUsize::new(4)));
    let next: Arc<Fake> = Arc::new(Fake::default()).on(GPU);
    thread::scope(|scope| {
        let warm_up = |fake: &Arc<Fake>| {
            let generator: Arc<dyn lipsync_engine::Generator> = Arc::clone(fake) as _;
            let pool = &pool;
            scope.spawn(move || pool.warm_up(&generator))
        };
        let first = warm_up(&small);
        for _ in 0..2 {
            asked.recv_timeout(TOO_LONG).unwrap();
        }
        // Another waits behind it, of which the one that leaves may not hear any more.
        let second = warm_up(&next);
        pool.leave_worker(1).unwrap();
        assert!(pool.stats().workers[1].is_here);
        for _ in 0..2 {
            go_tx.send(()).unwrap();
        }
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
    });
    until_left(&pool, 1);
    let warm = [0, 1].map(|worker| (format!("lipsync-worker-{worker}"), 4));
    assert_eq!(small.warm(), warm);
    let of_next = next.warm();
    assert!(
        of_next
            .iter()
            .any(|(thread, _)| thread == "lipsync-worker-0")
    );
}

#[test]
fn who_joins_is_ready_for_what_is_loaded_before_it_is_given_jobs() {
    let pool = start(gpus(1));
    let kept = Arc::new(Fake::default()).on(GPU);
    let gone = Arc::new(Fake::default()).on(GPU);
    for fake in [&kept, &gone] {
        pool.warm_up(&(Arc::clone(fake) as _)).unwrap();
    }
    drop(gone);
    assert_eq!(pool.join_worker(GPU).unwrap(), 1);
    let warm = [0, 1].map(|worker| (format!("lipsync-worker-{worker}"), 8));
    assert_eq!(kept.warm(), warm);
    assert_eq!(Arc::strong_count(&kept), 1, "nobody holds it");
    // One that cannot get ready does not join.
    let capacity = Arc::new(AtomicUsize::new(8));
    let large = Fake::with_capacity(&capacity);
    pool.warm_up(&(Arc::clone(&large) as _)).unwrap();
    capacity.store(0, Ordering::SeqCst);
    let refused = pool.join_worker(GPU).unwrap_err();
    assert!(matches!(
        refused,
        PoolError::OutOfMemory { device: GPU, .. }
    ));
    until_left(&pool, 2);
    assert_eq!(pool.stats().n_workers(), 2);
    assert!(no_such_worker(pool.leave_worker(2)));
    capacity.store(8, Ordering::SeqCst);
    assert_eq!(pool.join_worker(GPU).unwrap(), 2);
}

#[test]
fn nobody_joins_a_lost_device_or_a_pool_that_stops() {
    let pool = start(gpus(1));
    pool.report_lost(GPU, "as the test wants it");
    let refused = pool.join_worker(GPU).unwrap_err();
    assert!(matches!(refused, PoolError::DeviceLost { device: GPU }));
    assert_eq!(pool.stats().workers.len(), 1);
    let elsewhere = Device::Cuda(1);
    assert_eq!(pool.join_worker(elsewhere).unwrap(), 1);
    let fake = Arc::new(Fake::default()).on(elsewhere);
    assert_eq!(run(&pool, fake::job(&fake, 0..1)).timings.workers, [1]);
    // Of the device that is lost, the last may go.
    pool.leave_worker(0).unwrap();
    until_left(&pool, 0);

    pool.shutdown(TOO_LONG);
    assert_eq!(Arc::strong_count(&fake), 1);
    let is_over = |error| matches!(error, PoolError::ShuttingDown);
    assert!(is_over(pool.join_worker(elsewhere).unwrap_err()));
    assert!(is_over(pool.leave_worker(1).unwrap_err()));
    let generator: Arc<dyn lipsync_engine::Generator> = fake;
    assert!(is_over(pool.warm_up(&generator).unwrap_err()));
}

#[test]
fn what_is_prepared_holds_up_nobody_who_leaves() {
    let pool = pool(2, 4, 8);
    let (fake, preparing) = Fake::preparing();
    run(&pool, fake::followed_job(&fake, 0..2, 10..20));
    // Nobody tells the preparers to go on: only their leave can end it.
    let held = [0, 1].map(|_| preparing.recv_timeout(TOO_LONG).unwrap());
    pool.leave_worker(0).unwrap();
    until_left(&pool, 0);
    assert_eq!(pool.stats().n_workers(), 1);
    drop(held);
}

#[test]
fn a_job_that_waits_is_given_to_who_joins() {
    let pool = pool(1, 8, 8);
    let (gated, calls) = Fake::gated();
    let running = pool.submit(fake::job(&gated, 0..1)).unwrap();
    let call = calls.next();
    let fake = Arc::new(Fake::default());
    let next = pool.submit(fake::job(&fake, 1..2)).unwrap();
    let waits = pool.submit(fake::job(&fake, 2..3)).unwrap();
    until(|| pool.stats().queue_depth == 1);
    pool.join_worker(Device::Cpu).unwrap();
    // The first worker is held all the while.
    assert_eq!(wait(waits).unwrap().timings.workers, [1]);
    call.go(Act::Succeed);
    for handle in [running, next] {
        assert_eq!(wait(handle).unwrap().timings.workers, [0]);
    }
}

const N_JOBS: u32 = 10_000;
const N_SENDERS: u32 = 4;

/// Sends jobs of one to three frames until there are no more, and checks every answer.
fn send_jobs(pool: &WorkerPool, fake: &Arc<Fake>, next: &AtomicU32) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut waiting = std::collections::VecDeque::new();
        loop {
            let n = next.fetch_add(1, Ordering::SeqCst);
            let is_over = n >= N_JOBS;
            // A few under way at a time.
            while waiting.len() > if is_over { 0 } else { 12 } {
                let (handle, ids): (JobHandle, std::ops::Range<u32>) = waiting.pop_front().unwrap();
                let output = tokio::time::timeout(TOO_LONG, handle).await.unwrap();
                assert_eq!(output.unwrap().faces, fake::faces(ids));
            }
            if is_over {
                return;
            }
            let ids = 4 * n..4 * n + 1 + n % 3;
            let sent = pool.submit_when_free(fake::job(fake, ids.clone())).await;
            waiting.push_back((sent.unwrap(), ids));
        }
    });
}

/// Two to eight workers and back, again and again. Gives how often somebody joined.
fn come_and_go(pool: &WorkerPool, is_over: &AtomicBool) -> u32 {
    let mut n_joined = 0;
    loop {
        while pool.stats().n_workers() < 8 {
            pool.join_worker(Device::Cpu).unwrap();
            n_joined += 1;
        }
        let here: Vec<usize> = (0..pool.stats().workers.len()).collect();
        for worker in here.into_iter().skip((n_joined % 3) as usize).take(6) {
            pool.leave_worker(worker).unwrap();
        }
        until(|| pool.stats().n_workers() == 2);
        if is_over.load(Ordering::SeqCst) {
            return n_joined;
        }
    }
}

#[test]
fn under_load_every_job_is_answered_once_whoever_comes_and_goes() {
    let pool = pool(2, 64, 2);
    let fake = Arc::new(Fake::default());
    let (next, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let n_joined = Mutex::new(0);
    thread::scope(|scope| {
        let changes = scope.spawn(|| *n_joined.lock().unwrap() = come_and_go(&pool, &is_over));
        let senders: Vec<_> = (0..N_SENDERS)
            .map(|_| scope.spawn(|| send_jobs(&pool, &fake, &next)))
            .collect();
        let results: Vec<_> = senders.into_iter().map(|sender| sender.join()).collect();
        is_over.store(true, Ordering::SeqCst);
        changes.join().unwrap();
        assert!(results.iter().all(Result::is_ok), "an answer was wrong");
    });
    assert!(*n_joined.lock().unwrap() >= 6);
    pool.shutdown(TOO_LONG);
    let stats = pool.stats();
    assert_adds_up(&stats);
    assert_eq!((stats.submitted, stats.completed), (10_000, 10_000));
    assert_eq!(stats.workers.len(), 8, "numbers are taken again");
    // Each frame was run, once, by somebody whose figures are still here.
    let n_frames: u64 = (0..u64::from(N_JOBS)).map(|n| 1 + n % 3).sum();
    assert_eq!(
        stats.workers.iter().map(|w| w.frames).sum::<u64>(),
        n_frames
    );
}
