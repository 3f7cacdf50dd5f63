use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use proptest::prelude::*;

use super::*;

/// A frame that is nothing but its weight.
#[derive(Debug, PartialEq)]
struct Weight(u64);

impl Weighed for Weight {
    fn n_bytes(&self) -> u64 {
        self.0
    }
}

type Cache = Arc<FrameCache<Weight>>;
type Frame = Loaded<Weight>;

const FRAME_BYTES: u64 = 6;
const IDLE: Duration = Duration::from_secs(60);

fn unlimited() -> Arc<FrameBudget> {
    FrameBudget::new(u64::MAX, IDLE)
}

fn cache(capacity: usize) -> Cache {
    cache_in(&unlimited(), capacity, capacity)
}

fn cache_in(budget: &Arc<FrameBudget>, base: usize, most: usize) -> Cache {
    FrameCache::new(Bounds { base, most }, budget)
}

#[expect(clippy::unnecessary_wraps, reason = "stands for a load")]
fn frame() -> Result<Weight, RegistryError> {
    Ok(Weight(FRAME_BYTES))
}

fn get_all(cache: &Cache, indices: std::ops::Range<u32>) {
    for index in indices {
        cache.get(index, frame).expect("a frame");
    }
}

fn n_resident(cache: &Cache) -> usize {
    cache.stats().resident_frames
}

fn failure() -> RegistryError {
    RegistryError::NoFrames
}

#[test]
fn statistics_match_a_trace_computed_by_hand() {
    let cache = cache(2);
    // Held afterwards: {0} {0 1} {1 0} {0 2} {2 1} {1 2} {1 2}; the last one fails.
    for index in [0, 1, 0, 2, 1, 2, 2] {
        cache.get(index, frame).expect("a frame");
    }
    cache.get(9, || Err(failure())).expect_err("a failure");
    let stats = cache.stats();
    assert_eq!((stats.requests, stats.hits, stats.misses), (8, 3, 5));
    assert_eq!((stats.evictions, stats.loads), (2, 4));
    assert_eq!((stats.resident_frames, stats.capacity_frames), (2, 2));
    assert_eq!(stats.resident_bytes, 2 * FRAME_BYTES);
    assert!((stats.hit_rate() - 0.375).abs() < 1e-12);
    assert_eq!(stats.mean_load_time(), stats.load_time / 4);
}

#[test]
fn an_unused_cache_has_no_rates() {
    let stats = cache(1).stats();
    assert!(stats.hit_rate().abs() < 1e-12);
    assert_eq!(stats.mean_load_time(), Duration::ZERO);
}

#[test]
fn preloading_counts_loads_but_no_requests() {
    let cache = cache(2);
    cache.preload(1, frame).expect("preloaded");
    cache
        .preload(1, || panic!("it is there already"))
        .expect("preloaded");
    cache
        .get(1, || panic!("it is there already"))
        .expect("a frame");
    let stats = cache.stats();
    assert_eq!((stats.requests, stats.hits, stats.loads), (1, 1, 1));
}

#[test]
fn one_decode_however_many_ask() {
    const N_THREADS: u64 = 8;
    let (cache, n_decodes) = (cache(1), AtomicUsize::new(0));
    let ask = || {
        cache.get(5, || {
            // Ends only when all have asked, so all but one wait for it.
            while cache.stats().requests < N_THREADS {
                thread::yield_now();
            }
            n_decodes.fetch_add(1, Ordering::SeqCst);
            frame()
        })
    };
    let frames: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(ask)).collect();
        let join = |t: thread::ScopedJoinHandle<'_, Frame>| t.join().expect("no panic");
        threads
            .into_iter()
            .map(|t| join(t).expect("a frame"))
            .collect()
    });
    assert_eq!(n_decodes.load(Ordering::SeqCst), 1);
    assert!(frames.iter().all(|f| Arc::ptr_eq(f, &frames[0])));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.hits, stats.loads), (N_THREADS, 0, 1));
}

#[test]
fn a_failure_reaches_everyone_who_waited_and_is_forgotten() {
    const N_THREADS: u64 = 4;
    let (cache, n_decodes) = (cache(1), AtomicUsize::new(0));
    let ask = || {
        cache.get(5, || {
            while cache.stats().requests < N_THREADS {
                thread::yield_now();
            }
            n_decodes.fetch_add(1, Ordering::SeqCst);
            Err(failure())
        })
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(ask)).collect();
        for asked in threads {
            asked.join().expect("no panic").expect_err("a failure");
        }
    });
    assert_eq!(n_decodes.load(Ordering::SeqCst), 1);
    cache.get(5, frame).expect("tried again");
}

#[test]
fn a_frame_that_was_being_loaded_when_the_cache_was_cleared_is_not_kept() {
    let cache = cache(2);
    let of_before = cache.get(0, || {
        cache.clear();
        assert!(cache.lacks(0), "nobody waits for this load any more");
        // Another, which begins afterwards, lands first and stays.
        cache.get(0, || Ok(Weight(2))).expect("a frame");
        frame()
    });
    assert_eq!(of_before.expect("a frame"), Arc::new(Weight(FRAME_BYTES)));
    assert_eq!(cache.peek(0), Some(Arc::new(Weight(2))));
    let cleared_again = cache.get(1, || {
        cache.clear();
        frame()
    });
    cleared_again.expect("a frame");
    assert!(cache.lacks(0) && cache.lacks(1));
    assert_eq!((cache.stats().loads, cache.stats().resident_bytes), (3, 0));
}

#[test]
fn others_are_served_while_a_frame_is_decoded() {
    let cache = cache(2);
    cache.get(1, frame).expect("a frame");
    // Were the lock held, asking from within would hang.
    let decode = || {
        cache.get(1, frame).expect("the other frame");
        cache.get(2, frame).expect("one more");
        frame()
    };
    cache.get(0, decode).expect("a frame");
    assert_eq!(cache.stats().requests, 4);
}

#[test]
fn a_panic_while_decoding_leaves_a_working_cache() {
    let cache = cache(1);
    let panicking = || cache.get(3, || panic!("as the test wants it"));
    assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    cache.get(3, frame).expect("tried again");
}

#[test]
fn a_busy_cache_grows_as_far_as_the_budget_goes() {
    let budget = FrameBudget::new(5 * FRAME_BYTES, IDLE);
    let cache = cache_in(&budget, 2, 4);
    get_all(&cache, 0..9);
    assert_eq!((n_resident(&cache), budget.held()), (4, 4 * FRAME_BYTES));
    // Never beyond what the avatar has; with less room, only the base is sure.
    let other = cache_in(&budget, 2, 9);
    get_all(&other, 0..9);
    assert_eq!((n_resident(&cache), n_resident(&other)), (3, 2));
    assert_eq!(budget.held(), 5 * FRAME_BYTES);
    drop(other);
    assert_eq!(budget.held(), 3 * FRAME_BYTES);
    get_all(&cache, 0..9);
    assert_eq!(n_resident(&cache), 4);
}

#[test]
fn idle_caches_give_way_before_busy_ones() {
    let budget = FrameBudget::new(6 * FRAME_BYTES, Duration::ZERO);
    let [first, second] = [0, 1].map(|_| cache_in(&budget, 2, 9));
    get_all(&first, 0..3);
    get_all(&second, 0..3);
    // All count as idle here: the one idle for longest goes, however little it holds.
    let third = cache_in(&budget, 2, 9);
    get_all(&third, 0..2);
    assert_eq!([&first, &second, &third].map(n_resident), [1, 3, 2]);

    // None does here: what is beyond the base goes, and then the largest shrinks to a fair share.
    let budget = FrameBudget::new(6 * FRAME_BYTES, IDLE);
    let [first, second] = [0, 1].map(|_| cache_in(&budget, 2, 9));
    get_all(&first, 0..4);
    get_all(&second, 0..2);
    let third = cache_in(&budget, 3, 9);
    get_all(&third, 0..9);
    assert_eq!([&first, &second, &third].map(n_resident), [2, 2, 2]);
    assert_eq!(budget.held(), 6 * FRAME_BYTES);
}

#[test]
fn an_idle_cache_goes_back_to_its_base() {
    let budget = FrameBudget::new(u64::MAX, IDLE);
    let cache = cache_in(&budget, 2, 9);
    get_all(&cache, 0..9);
    budget.shrink_idle(Instant::now());
    assert_eq!(n_resident(&cache), 9);
    budget.shrink_idle(Instant::now() + IDLE);
    assert_eq!((n_resident(&cache), budget.held()), (2, 2 * FRAME_BYTES));
    // The most recent ones stayed.
    assert!(!cache.lacks(8) && !cache.lacks(7) && cache.lacks(6));
}

#[test]
fn what_never_fits_is_served_and_not_kept() {
    let budget = FrameBudget::new(FRAME_BYTES - 1, IDLE);
    let cache = cache_in(&budget, 2, 9);
    get_all(&cache, 0..3);
    assert_eq!((n_resident(&cache), budget.held()), (0, 0));
    assert_eq!(cache.stats().loads, 3);
}

#[test]
fn read_ahead_is_loaded_once_and_counted_when_it_is_used() {
    let cache = cache(4);
    cache.get(0, frame).expect("a frame");
    for index in [0, 1, 1, 2] {
        cache.read_ahead(index, frame).expect("read ahead");
    }
    get_all(&cache, 1..2);
    get_all(&cache, 0..2);
    let stats = cache.stats();
    assert_eq!((stats.read_ahead, stats.read_ahead_hits), (2, 1));
    assert_eq!((stats.requests, stats.hits, stats.loads), (4, 3, 3));
}

#[test]
fn many_threads_never_pass_the_budget_and_leave_nothing_behind() {
    const N_THREADS: u32 = 6;
    let budget = FrameBudget::new(7 * FRAME_BYTES, Duration::ZERO);
    let caches: Vec<Cache> = (0..4).map(|_| cache_in(&budget, 2, 5)).collect();
    let work = |seed: u32| {
        for n in 0..400_u32 {
            let turn = n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 7;
            let cache = &caches[turn as usize % caches.len()];
            cache.get(turn % 11, frame).expect("a frame");
            assert!(budget.held() <= 7 * FRAME_BYTES);
        }
    };
    thread::scope(|scope| {
        for seed in 0..N_THREADS {
            scope.spawn(move || work(seed));
        }
    });
    let held: u64 = caches.iter().map(|c| c.stats().resident_bytes).sum();
    assert_eq!(held, budget.held());
    assert!(caches.iter().all(|cache| n_resident(cache) <= 5));
    drop(caches);
    assert_eq!(budget.held(), 0);
}

proptest! {
    /// The oracle is a list in the order of use.
    #[test]
    fn behaves_as_a_list_would(
        capacity in 1_usize..6,
        trace in prop::collection::vec(0_u32..9, 0..200),
    ) {
        let cache = cache(capacity);
        let mut list: Vec<u32> = Vec::new();
        let (mut hits, mut evictions) = (0, 0);
        for index in trace.iter().copied() {
            cache.get(index, frame).expect("a frame");
            if let Some(place) = list.iter().position(|i| *i == index) {
                list.remove(place);
                hits += 1;
            }
            list.push(index);
            if list.len() > capacity {
                list.remove(0);
                evictions += 1;
            }
            let stats = cache.stats();
            prop_assert_eq!((stats.hits, stats.evictions), (hits, evictions));
            prop_assert_eq!(stats.hits + stats.misses, stats.requests);
            prop_assert_eq!(stats.resident_frames, list.len());
            prop_assert_eq!(stats.resident_bytes, list.len() as u64 * FRAME_BYTES);
        }
    }
}

#[test]
fn a_part_of_the_budget_can_be_used_for_a_while() {
    let budget = FrameBudget::new(10 * FRAME_BYTES, IDLE);
    let cache = cache_in(&budget, 10, 10);
    get_all(&cache, 0..10);
    assert_eq!(n_resident(&cache), 10);
    budget.use_only(50);
    budget.reclaim(0, 0);
    assert_eq!((n_resident(&cache), budget.held()), (5, 5 * FRAME_BYTES));
    get_all(&cache, 20..30);
    assert!(budget.held() <= 5 * FRAME_BYTES);
    // Another limit is another whole.
    budget.limit(4 * FRAME_BYTES, IDLE);
    budget.reclaim(0, 0);
    assert_eq!(budget.held(), 2 * FRAME_BYTES);
    budget.use_only(100);
    get_all(&cache, 40..50);
    assert_eq!(budget.held(), 4 * FRAME_BYTES);
}
