use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use lipsync_core::{FaceGeometry, PixelRect};
use proptest::prelude::*;

use super::*;

fn cache(capacity: usize) -> BackgroundCache {
    BackgroundCache::new(NonZeroUsize::new(capacity).expect("not zero"))
}

/// A frame of one pixel, so that tests with thousands of them stay quick.
fn frame() -> Result<BackgroundFrame, RegistryError> {
    let geometry = FaceGeometry {
        region_px: 1,
        crop_px: 1,
        ring_px: 0,
        mask_x: (0, 0),
        mask_y: (0, 0),
    };
    let rect = PixelRect {
        x: 0,
        y: 0,
        width: 1,
        height: 1,
    };
    let picture = Picture::new(1, 1, vec![0; 3]).expect("a picture");
    let crop = FaceCrop::cut(&picture, rect, geometry).expect("a crop");
    Ok(BackgroundFrame { picture, crop })
}

const FRAME_BYTES: u64 = 6;

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
