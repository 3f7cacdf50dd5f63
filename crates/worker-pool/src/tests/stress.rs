//! Many threads, random jobs, the CPU and GPUs: every face comes from its own crop and audio, whoever
//! shares its batch; only jobs at fault fail; and every count fits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::{
    fake::{self, Fake},
    *,
};

const N_CLIENTS: u32 = 8;

#[derive(Debug, Clone, Copy)]
enum Wish {
    Complete,
    Cancel,
    Fail,
    Panic,
}

/// Jobs of one client: frames, and what is to become of it.
fn client() -> impl Strategy<Value = Vec<(u32, Wish)>> {
    let wish = prop_oneof![
        8 => Just(Wish::Complete),
        2 => Just(Wish::Cancel),
        1 => Just(Wish::Fail),
        1 => Just(Wish::Panic),
    ];
    prop::collection::vec((1..20_u32, wish), 10..20)
}

/// Submits until there is room; counts the refusals.
fn submit(pool: &WorkerPool, job: &Job, refused: &AtomicU64) -> JobHandle {
    loop {
        match pool.submit(job.clone()) {
            Ok(handle) => return handle,
            Err(PoolError::QueueFull { .. }) => refused.fetch_add(1, Ordering::SeqCst),
            Err(other) => panic!("{other:?}"),
        };
        thread::yield_now();
    }
}

/// All clients speak to the same few networks, so that their jobs share batches where that is done.
fn speak(pool: &WorkerPool, client: u32, speech: &Speech<'_>) {
    let mut first_id = client << 20;
    let mut handles = Vec::new();
    for (n, &(n_frames, wish)) in speech.jobs.iter().enumerate() {
        let fault = match wish {
            Wish::Complete | Wish::Cancel => 0,
            Wish::Fail => fake::FAILS,
            Wish::Panic => fake::PANICS,
        };
        let ids = first_id + fault..first_id + fault + n_frames;
        first_id += n_frames;
        let fake = &speech.networks[n % speech.networks.len()];
        let handle = submit(pool, &fake::job(fake, ids.clone()), speech.refused);
        match wish {
            Wish::Cancel => drop(handle),
            _ => handles.push((handle, ids, wish)),
        }
    }
    for (handle, ids, wish) in handles {
        match (wait(handle), wish) {
            (Ok(output), Wish::Complete) => assert_eq!(output.faces, fake::faces(ids)),
            (Err(PoolError::Engine(_)), Wish::Fail) => {}
            (Err(PoolError::Panicked), Wish::Panic) => {}
            (result, _) => panic!("{wish:?} ended as {result:?}"),
        }
    }
}

/// What a client says, and to whom.
struct Speech<'a> {
    jobs: &'a [(u32, Wish)],
    networks: &'a [Arc<Fake>],
    refused: &'a AtomicU64,
}

/// Workers on the CPU, on one GPU, or on two.
fn devices() -> impl Strategy<Value = Vec<Device>> {
    let cpu = (1..6_usize).prop_map(|n| vec![Device::Cpu; n]);
    let gpu = (1..6_usize).prop_map(|n| vec![GPU; n]);
    let gpus = (1..4_usize).prop_map(|n| [vec![GPU; n], vec![Device::Cuda(1); n]].concat());
    prop_oneof![cpu, gpu, gpus]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nothing_is_mixed_up_lost_or_counted_twice(
        clients in prop::collection::vec(client(), N_CLIENTS as usize),
        devices in devices(),
        queue_capacity in 1..20_usize,
        max_batch_frames in 1..40_usize,
        wait_ms in 0..3_u64,
    ) {
        let pool = start(PoolConfig {
            devices: devices.clone(),
            queue_capacity,
            max_batch_frames,
            max_batch_wait: Duration::from_millis(wait_ms),
            scheduling: Scheduling::default(),
            recovery: Recovery::none(),
        });
        let on = |device: &Device| Arc::new(Fake::default()).on(*device);
        let networks: Vec<_> = devices.iter().chain(&devices).map(on).collect();
        let refused = AtomicU64::new(0);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| while !over.load(Ordering::SeqCst) {
                assert_adds_up(&pool.stats());
                thread::yield_now();
            });
            let speakers: Vec<_> = (0..)
                .zip(&clients)
                .map(|(client, jobs)| {
                    let (pool, networks, refused) = (&pool, &networks[..], &refused);
                    let speech = Speech { jobs, networks, refused };
                    scope.spawn(move || speak(pool, client, &speech))
                })
                .collect();
            let results: Vec<_> = speakers.into_iter().map(|speaker| speaker.join()).collect();
            over.store(true, Ordering::SeqCst);
            assert!(results.iter().all(Result::is_ok), "a client saw something wrong");
        });
        pool.shutdown(TOO_LONG);

        let count = |wanted: fn(Wish) -> bool| {
            clients.iter().flatten().filter(|(_, wish)| wanted(*wish)).count() as u64
        };
        let stats = pool.stats();
        assert_adds_up(&stats);
        prop_assert_eq!(stats.submitted, count(|_| true));
        prop_assert_eq!(stats.rejected, refused.into_inner());
        prop_assert_eq!(stats.failed, count(|wish| matches!(wish, Wish::Fail | Wish::Panic)));
        // A job may be through before its handle is dropped.
        let cancels = count(|wish| matches!(wish, Wish::Cancel));
        prop_assert!(stats.cancelled <= cancels);
        prop_assert_eq!((stats.in_flight, stats.queue_depth), (0, 0));
    }
}
