//! Jobs that share batches, and devices side by side.

use std::ops::Range;

use super::{
    fake::{self, Act, Calls, Fake},
    *,
};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn gated_on_gpu() -> (Arc<Fake>, Calls) {
    let (gated, calls) = Fake::gated();
    (gated.on(GPU), calls)
}

/// Lets a run go on, and says what it was of.
fn pass(calls: &Calls) -> Vec<u32> {
    let call = calls.next();
    let ids = call.ids.clone();
    call.go(Act::Succeed);
    ids
}

/// Submits jobs, one after the other, each from a frame to before another.
fn submit_all<const N: usize>(
    pool: &WorkerPool,
    gated: &Arc<Fake>,
    jobs: [(u32, u32); N],
) -> [(JobHandle, Range<u32>); N] {
    jobs.map(|(from, to)| (pool.submit(fake::job(gated, from..to)).unwrap(), from..to))
}

fn assert_complete(handles: impl IntoIterator<Item = (JobHandle, Range<u32>)>) {
    for (handle, ids) in handles {
        assert_eq!(wait(handle).unwrap().faces, fake::faces(ids));
    }
}

#[test]
fn what_waits_at_the_same_moment_shares_a_batch() {
    let pool = gpu_pool(8, Duration::ZERO);
    let (gated, calls) = gated_on_gpu();
    let first = submit_all(&pool, &gated, [(0, 1)]);
    let running = calls.next();
    // Nothing is held back: the next goes to the worker at once, the others find it full.
    let second = submit_all(&pool, &gated, [(1, 2)]);
    until(|| pool.stats().queue_depth == 0);
    let others = submit_all(&pool, &gated, [(10, 12), (20, 23), (30, 31)]);
    assert_eq!(pool.stats().queue_depth, 3);
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1]);
    assert_eq!(pass(&calls), [10, 11, 20, 21, 22, 30]);
    let mut handles = others.into_iter();
    let (handle, ids) = handles.next().unwrap();
    let output = wait(handle).unwrap();
    assert_eq!(output.faces, fake::faces(ids));
    assert_eq!(output.timings.batch_frames, 6);
    assert_complete(first.into_iter().chain(second).chain(handles));
    assert_eq!(pool.stats().workers[0].batches, 3);
}

#[test]
fn a_job_is_held_back_only_while_every_worker_is_busy() {
    let pool = gpu_pool(8, FOR_EVER);
    let (gated, calls) = gated_on_gpu();
    let first = submit_all(&pool, &gated, [(0, 1)]);
    let running = calls.next();
    let others = submit_all(&pool, &gated, [(1, 2), (2, 3)]);
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1, 2]);
    assert_complete(first.into_iter().chain(others));
    let shared = pool.stats().shared;
    assert_eq!((shared.idle, shared.full, shared.wait_over), (2, 0, 0));
}

#[test]
fn a_full_batch_is_not_held_back() {
    let pool = gpu_pool(4, FOR_EVER);
    let (gated, calls) = gated_on_gpu();
    let first = submit_all(&pool, &gated, [(0, 1)]);
    let running = calls.next();
    let others = submit_all(&pool, &gated, [(1, 3), (3, 5), (5, 6)]);
    until(|| pool.stats().queue_depth == 1);
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1, 2, 3, 4]);
    assert_eq!(pass(&calls), [5]);
    assert_complete(first.into_iter().chain(others));
    assert_eq!(pool.stats().shared.full, 1);
}

#[test]
fn the_wait_ends() {
    let pool = gpu_pool(8, Duration::from_millis(1));
    let (gated, calls) = gated_on_gpu();
    let first = submit_all(&pool, &gated, [(0, 1)]);
    let running = calls.next();
    let second = submit_all(&pool, &gated, [(1, 2)]);
    until(|| pool.stats().shared.wait_over == 1);
    assert_eq!(pool.stats().queue_depth, 0, "it is at the worker");
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1]);
    assert_complete(first.into_iter().chain(second));
}

#[test]
fn nobody_is_held_back_beyond_its_deadline() {
    let pool = gpu_pool(8, FOR_EVER);
    let (gated, calls) = gated_on_gpu();
    let first = submit_all(&pool, &gated, [(0, 1)]);
    let running = calls.next();
    let deadline = Instant::now() + TOO_LONG;
    let urgent = fake::due(fake::job(&gated, 1..2), Some(deadline));
    let urgent = pool.submit(urgent).unwrap();
    until(|| pool.stats().queue_depth == 0);
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1]);
    assert_complete(first.into_iter().chain(std::iter::once((urgent, 1..2))));
}

#[test]
fn on_the_cpu_nothing_is_shared_or_held_back() {
    let pool = start(PoolConfig {
        devices: vec![Device::Cpu],
        queue_capacity: 8,
        max_batch_frames: 8,
        max_batch_wait: FOR_EVER,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let (gated, calls) = Fake::gated();
    let first = submit_all(&pool, &gated, [(0, 1)]);
    let running = calls.next();
    let others = submit_all(&pool, &gated, [(1, 2), (2, 3), (3, 4)]);
    until(|| pool.stats().queue_depth == 2);
    running.go(Act::Succeed);
    for id in 1..4 {
        assert_eq!(pass(&calls), [id]);
    }
    assert_complete(first.into_iter().chain(others));
}

#[test]
fn models_take_their_turn_whatever_shares_a_batch() {
    let pool = gpu_pool(4, Duration::ZERO);
    let (gate, calls) = gated_on_gpu();
    let first = submit_all(&pool, &gate, [(0, 1)]);
    let running = calls.next();
    let second = submit_all(&pool, &gate, [(1, 2)]);
    until(|| pool.stats().queue_depth == 0);
    // The other model's job waits between; its own calls are seen, too.
    let (other, other_calls) = gated_on_gpu();
    let a = submit_all(&pool, &gate, [(10, 12), (12, 14)]);
    let b = submit_all(&pool, &other, [(50, 51)]);
    let c = submit_all(&pool, &gate, [(20, 21)]);
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1]);
    assert_eq!(pass(&calls), [10, 11, 12, 13]);
    // A model's jobs beyond a full batch come after those that were there before them.
    let turn = other_calls.next();
    assert_eq!(turn.ids, [50]);
    assert!(calls.next_before(Instant::now()).is_none());
    turn.go(Act::Succeed);
    assert_eq!(pass(&calls), [20]);
    assert_complete(first.into_iter().chain(second).chain(a).chain(b).chain(c));
}

#[test]
fn a_cancelled_or_failing_neighbour_is_not_noticed() {
    let pool = gpu_pool(16, Duration::ZERO);
    let (gate, calls) = gated_on_gpu();
    let fake = Arc::new(Fake::default()).on(GPU);
    let first = submit_all(&pool, &gate, [(0, 1)]);
    let running = calls.next();
    let second = submit_all(&pool, &gate, [(1, 2)]);
    until(|| pool.stats().queue_depth == 0);
    let bad = fake::FAILS;
    let cancelled = submit_all(&pool, &fake, [(10, 12)]);
    let good = submit_all(&pool, &fake, [(20, 22), (22, 24)]);
    let failing = submit_all(&pool, &fake, [(bad, bad + 1)]);
    let late = submit_all(&pool, &fake, [(30, 32)]);
    drop(cancelled);
    running.go(Act::Succeed);
    assert_eq!(pass(&calls), [1]);
    assert_complete(first.into_iter().chain(second).chain(good).chain(late));
    for (handle, _) in failing {
        let error = wait(handle).unwrap_err();
        assert!(matches!(error, PoolError::Engine(_)), "{error:?}");
    }
    assert_eq!(fake.n_calls(), 1 + 4, "together, then one by one");
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.cancelled), (1, 1));
    assert_adds_up(&stats);
}

#[test]
fn a_large_job_is_split_over_idle_workers_in_no_small_pieces() {
    let pool = start(PoolConfig {
        devices: vec![GPU; 8],
        queue_capacity: 4,
        max_batch_frames: 64,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let (gated, calls) = gated_on_gpu();
    let whole = submit_all(&pool, &gated, [(0, 64)]);
    let mut lens: Vec<_> = (0..4).map(|_| pass(&calls).len()).collect();
    assert_complete(whole);
    lens.push(
        pool.stats()
            .workers
            .iter()
            .filter(|w| w.batches > 0)
            .count(),
    );
    assert_eq!(lens, [16, 16, 16, 16, 4]);
    let small = submit_all(&pool, &gated, [(0, 8)]);
    assert_eq!(pass(&calls).len(), 8);
    assert_complete(small);
}

#[test]
fn jobs_go_to_workers_of_their_device_and_wait_for_no_other() {
    let other = Device::Cuda(1);
    let pool = start(PoolConfig {
        devices: vec![GPU, other],
        queue_capacity: 8,
        max_batch_frames: 1,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let (gated, calls) = gated_on_gpu();
    let held = submit_all(&pool, &gated, [(0, 5)]);
    let call = calls.next();
    assert_eq!(call.thread, "lipsync-worker-0");
    let fake = Arc::new(Fake::default()).on(other);
    for _ in 0..3 {
        assert_eq!(run(&pool, fake::job(&fake, 9..11)).timings.workers, [1]);
    }
    call.go(Act::Succeed);
    for id in 1..5 {
        assert_eq!(pass(&calls), [id]);
    }
    assert_complete(held);
    let nowhere = fake::job(&Arc::new(Fake::default()), 0..1);
    let refused = pool.submit(nowhere).unwrap_err();
    let device = Device::Cpu;
    assert!(matches!(refused, PoolError::NoWorker { device: d } if d == device));
}
