//! Devices without enough memory: others give some back, then batches shrink, then jobs are refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use lipsync_engine::MakeRoom;

use super::{
    fake::{self, Fake},
    *,
};

/// Gives one frame's room to a device a time, as often as it can.
struct Idle {
    capacity: Arc<AtomicUsize>,
    n_left: AtomicUsize,
}

impl MakeRoom for Idle {
    fn make_room(&self, device: Device, n_bytes: u64) -> bool {
        assert_eq!(device, GPU);
        assert!(n_bytes > 0);
        let take = |n: usize| n.checked_sub(1);
        let left = self
            .n_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        if left.is_ok() {
            self.capacity.fetch_add(1, Ordering::SeqCst);
        }
        left.is_ok()
    }
}

#[test]
fn what_nobody_uses_goes_before_a_batch_is_halved() {
    let capacity = Arc::new(AtomicUsize::new(5));
    let room = Idle {
        capacity: Arc::clone(&capacity),
        n_left: AtomicUsize::new(10),
    };
    let room = Arc::new(room);
    let config = PoolConfig {
        devices: vec![GPU],
        queue_capacity: 4,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    };
    let pool = WorkerPool::start(config, Arc::clone(&room) as _).unwrap();
    let fake = Fake::with_capacity(&capacity);
    let output = run(&pool, fake::job(&fake, 0..8));
    assert_eq!(output.faces, fake::faces(0..8));
    assert_eq!(output.timings.batch_frames, 8);
    assert_eq!(fake.n_calls(), 4, "5, 6, 7 and then 8 frames fit");
    assert_eq!(room.n_left.load(Ordering::SeqCst), 7);
    assert_eq!(pool.stats().workers[0].out_of_memory, 3);
}

#[test]
fn batches_are_halved_until_they_fit_and_stay_small() {
    let pool = gpu_pool(8, Duration::ZERO);
    let fake = Fake::with_capacity(&Arc::new(AtomicUsize::new(3)));
    let output = run(&pool, fake::job(&fake, 0..8));
    assert_eq!(output.faces, fake::faces(0..8));
    assert_eq!(output.timings.batch_frames, 2);
    // 8; 4 then 2 and 2; 4 then 2 and 2: the second four are tried before it is known.
    assert_eq!(fake.n_calls(), 7);
    let output = run(&pool, fake::job(&fake, 8..16));
    assert_eq!(output.faces, fake::faces(8..16));
    assert_eq!(fake.n_calls(), 7 + 4, "nothing large is tried");
    assert_eq!(pool.stats().workers[0].out_of_memory, 3);
}

#[test]
fn larger_batches_are_tried_again_after_a_while() {
    let capacity = Arc::new(AtomicUsize::new(3));
    let pool = gpu_pool(8, Duration::ZERO);
    let fake = Fake::with_capacity(&capacity);
    run(&pool, fake::job(&fake, 0..8));
    capacity.store(8, Ordering::SeqCst);
    until(|| run(&pool, fake::job(&fake, 0..8)).timings.batch_frames == 8);
    assert_eq!(pool.stats().workers[0].out_of_memory, 3);
}

#[test]
fn a_frame_without_memory_fails_its_job_and_nothing_else() {
    let capacity = Arc::new(AtomicUsize::new(0));
    let pool = gpu_pool(8, Duration::ZERO);
    let fake = Fake::with_capacity(&capacity);
    let handle = pool.submit(fake::job(&fake, 0..4)).unwrap();
    let error = wait(handle).unwrap_err();
    assert!(
        matches!(
            error,
            PoolError::OutOfMemory {
                device: GPU,
                needed: 1,
                free: 0
            }
        ),
        "{error:?}"
    );
    capacity.store(8, Ordering::SeqCst);
    let output = run(&pool, fake::job(&fake, 4..6));
    assert_eq!(output.faces, fake::faces(4..6));
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.completed), (1, 1));
    assert_adds_up(&stats);
}

#[test]
fn every_worker_of_the_device_is_warmed_up_as_far_as_memory_goes() {
    let pool = start(PoolConfig {
        devices: vec![GPU, Device::Cuda(1), GPU],
        queue_capacity: 4,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    });
    let fake = Fake::with_capacity(&Arc::new(AtomicUsize::new(3)));
    pool.warm_up(&(Arc::clone(&fake) as _)).unwrap();
    let warm = [0, 2].map(|worker| (format!("lipsync-worker-{worker}"), 2));
    assert_eq!(fake.warm(), warm);
    assert_eq!(Arc::strong_count(&fake), 1, "no worker holds it");
    run(&pool, fake::job(&fake, 0..8));
    let refused: u64 = pool.stats().workers.iter().map(|w| w.out_of_memory).sum();
    assert_eq!(refused, 0, "the workers know what fits");

    let fake = Fake::with_capacity(&Arc::new(AtomicUsize::new(0)));
    let error = pool.warm_up(&(fake as _)).unwrap_err();
    assert!(matches!(error, PoolError::OutOfMemory { device: GPU, .. }));
    let nowhere = Arc::new(Fake::default());
    let error = pool.warm_up(&(nowhere as _)).unwrap_err();
    assert!(matches!(error, PoolError::NoWorker { .. }));
}

#[test]
fn whoever_panics_outside_of_a_network_costs_a_job_and_no_worker() {
    struct Broken;
    impl MakeRoom for Broken {
        fn make_room(&self, _: Device, _: u64) -> bool {
            panic!("as the test wants it")
        }
    }
    let config = PoolConfig {
        devices: vec![GPU],
        queue_capacity: 4,
        max_batch_frames: 8,
        max_batch_wait: Duration::ZERO,
        scheduling: Scheduling::default(),
        recovery: Recovery::none(),
    };
    let pool = WorkerPool::start(config, Arc::new(Broken)).unwrap();
    let large = Fake::with_capacity(&Arc::new(AtomicUsize::new(0)));
    // More than the channel to the worker has room for.
    for _ in 0..4 {
        let lost = wait(pool.submit(fake::job(&large, 0..2)).unwrap());
        assert!(matches!(lost, Err(PoolError::Lost)), "{lost:?}");
    }
    let warm_up = pool.warm_up(&(large as _));
    assert!(warm_up.is_err(), "its reply is lost, and not waited for");
    let small = Arc::new(Fake::default()).on(GPU);
    let output = run(&pool, fake::job(&small, 0..8));
    assert_eq!(output.faces, fake::faces(0..8));
}
