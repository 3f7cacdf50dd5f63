use super::*;

const BYTES: u64 = 10;

fn shelf(cache: &Arc<VisualCache>) -> Shelf {
    Shelf::new(Arc::clone(cache), BYTES)
}

/// Looks a frame up and fills it where that is possible; whether it was there.
fn show(shelf: &Shelf, frame: u32) -> bool {
    match shelf.look_up::<u32>(frame) {
        Found::Kept(kept) => {
            assert_eq!(*kept, frame);
            true
        }
        Found::Absent(claim) => {
            claim.fill(Arc::new(frame));
            false
        }
        Found::NoRoom => false,
    }
}

#[test]
fn counts_are_right() {
    let cache = Arc::new(VisualCache::new(3 * BYTES));
    let (a, b) = (shelf(&cache), shelf(&cache));
    assert!(!show(&a, 1));
    assert!(show(&a, 1));
    assert!(!show(&b, 1), "frames of another generator are others");
    assert!(!show(&b, 2));
    assert!(
        !show(&b, 3),
        "the fourth entry takes the place of the first"
    );
    assert!(!show(&a, 1), "and the fifth that of the second");
    let expected = |hits, misses, evictions, resident| VisualCacheStats {
        hits,
        misses,
        evictions,
        resident_frames: resident,
        resident_bytes: resident * BYTES,
        capacity_bytes: 3 * BYTES,
        prepared: 0,
    };
    assert_eq!(a.stats(), expected(1, 2, 1, 1));
    assert_eq!(b.stats(), expected(0, 3, 1, 2));
    assert_eq!(cache.stats(), expected(1, 5, 2, 3));
    drop(b);
    assert_eq!(cache.stats(), expected(1, 5, 2, 1));
    assert!(show(&a, 1));
}

#[test]
fn what_was_used_last_stays() {
    let cache = Arc::new(VisualCache::new(2 * BYTES));
    let shelf = shelf(&cache);
    show(&shelf, 1);
    show(&shelf, 2);
    assert!(show(&shelf, 1));
    show(&shelf, 3);
    assert!(show(&shelf, 1));
    assert!(!show(&shelf, 2));
}

#[test]
fn what_is_read_or_computed_stays_and_the_budget_holds() {
    let cache = Arc::new(VisualCache::new(2 * BYTES));
    let shelf = shelf(&cache);
    show(&shelf, 1);
    let Found::Kept(read) = shelf.look_up::<u32>(1) else {
        panic!("it was filled");
    };
    let Found::Absent(computed) = shelf.look_up::<u32>(2) else {
        panic!("there is room");
    };
    assert!(matches!(shelf.look_up::<u32>(3), Found::NoRoom));
    assert_eq!(cache.stats().resident_bytes, 2 * BYTES);
    assert_eq!(cache.stats().resident_frames, 1);
    drop(read);
    assert!(!show(&shelf, 3), "there is room for it now");
    assert!(show(&shelf, 3));
    computed.fill(Arc::new(2_u32));
    assert!(show(&shelf, 2));
}

#[test]
fn one_of_many_fills() {
    let cache = Arc::new(VisualCache::new(2 * BYTES));
    let shelf = shelf(&cache);
    let Found::Absent(claim) = shelf.look_up::<u32>(1) else {
        panic!("there is room");
    };
    assert!(matches!(shelf.look_up::<u32>(1), Found::NoRoom));
    assert!(shelf.claim(1).is_none());
    claim.fill(Arc::new(1_u32));
    assert!(show(&shelf, 1));
    assert_eq!(cache.stats().resident_frames, 1);
    assert_eq!(cache.stats().misses, 2);
}

#[test]
fn a_claim_given_up_leaves_nothing() {
    let cache = Arc::new(VisualCache::new(BYTES));
    let shelf = shelf(&cache);
    drop(shelf.claim(1));
    assert_eq!(cache.stats().resident_bytes, 0);
    assert!(!show(&shelf, 1));
    assert!(show(&shelf, 1));
}

#[test]
fn without_room_for_one_entry_nothing_is_kept() {
    for capacity in [0, BYTES - 1] {
        let cache = Arc::new(VisualCache::new(capacity));
        let shelf = shelf(&cache);
        assert!(!show(&shelf, 1) && !show(&shelf, 1));
        assert_eq!(cache.stats().resident_bytes, 0);
        assert_eq!(cache.stats().misses, 2);
    }
}

#[test]
fn a_part_of_it_can_be_used_for_a_while() {
    let cache = Arc::new(VisualCache::new(4 * BYTES));
    let shelf = shelf(&cache);
    for frame in 1..=4 {
        show(&shelf, frame);
    }
    let Found::Kept(read) = shelf.look_up::<u32>(1) else {
        panic!("it was filled");
    };
    cache.limit_to(50);
    let stats = cache.stats();
    assert_eq!(
        (stats.resident_frames, stats.capacity_bytes),
        (2, 2 * BYTES)
    );
    cache.limit_to(0);
    assert_eq!(cache.stats().resident_frames, 1, "one is read");
    assert!(matches!(shelf.look_up::<u32>(9), Found::NoRoom));
    drop(read);
    cache.limit_to(100);
    for frame in 5..=7 {
        show(&shelf, frame);
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.resident_frames, stats.capacity_bytes),
        (4, 4 * BYTES)
    );
}
