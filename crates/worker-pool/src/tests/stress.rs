//! Many threads, random jobs: every face comes from its own crop and audio, and every count fits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::{
    fake::{self, Act, Fake},
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

fn speak(pool: &WorkerPool, client: u32, jobs: &[(u32, Wish)], refused: &AtomicU64) {
    let good = Arc::new(Fake::default());
    let mut first_id = client << 20;
    let mut handles = Vec::new();
    for &(n_frames, wish) in jobs {
        let ids = first_id..first_id + n_frames;
        first_id = ids.end;
        let fake = match wish {
            Wish::Complete | Wish::Cancel => Arc::clone(&good),
            Wish::Fail => Fake::that(Act::Fail),
            Wish::Panic => Fake::that(Act::Panic),
        };
        let handle = submit(pool, &fake::job(&fake, ids.clone()), refused);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nothing_is_mixed_up_lost_or_counted_twice(
        clients in prop::collection::vec(client(), N_CLIENTS as usize),
        n_workers in 1..6_usize,
        queue_capacity in 1..20_usize,
        max_batch_frames in 1..9_usize,
    ) {
        let pool = pool(n_workers, queue_capacity, max_batch_frames);
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
                    let (pool, refused) = (&pool, &refused);
                    scope.spawn(move || speak(pool, client, jobs, refused))
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
