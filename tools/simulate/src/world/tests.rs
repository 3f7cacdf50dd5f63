//! Small deployments whose figures are known without a simulation.

use lipsync_registry::{EvictionPolicy, ShelfNeeds};

use super::*;
use crate::{host, pattern::tests::SMALL};

const MS: u64 = 1_000_000;

fn plan() -> Deployment {
    Deployment {
        n_replicas: 1,
        n_per_host: 1,
        n_cores: 1,
        size: Size {
            n_workers: 1,
            max_models: 100,
            max_bytes: 1 << 33,
            needs: ShelfNeeds {
                weights_bytes: 1 << 20,
                arena_bytes: 0,
            },
            eviction: EvictionPolicy::Lru,
            max_sessions: 100,
            queue_capacity: 256,
            macs: 0,
        },
        costs: Costs {
            frame_ns: 10 * MS,
            paste_ns: MS,
            call_ns: 5 * MS,
            load_ns: 1000 * MS,
        },
        choice: Choice::Hash,
        ring: Ring {
            size: 1024,
            balance_percent: 150,
            seed: 1,
        },
        seed: 1,
    }
}

const ONE_USER: Closed = Closed {
    n_users: 1,
    n_warm_up: 10,
    n_requests: 100,
    n_frames: 10,
    n_models: 1,
    exponent: 1.0,
};

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 0.01 * expected
}

#[test]
fn one_user_has_the_server_alone() {
    let found = World::play_closed(&plan(), ONE_USER).unwrap();
    assert_eq!(
        (found.n_calls, found.n_loads, found.call_us.len()),
        (100, 0, 100)
    );
    // 5 + 10 x 10 + 10 x 1 ms.
    assert!(
        close(found.throughput(), 1000.0 / 115.0),
        "{}",
        found.throughput()
    );
    let p50 = found.call_us.value_at_quantile(0.5);
    assert!((114_900..=115_200).contains(&p50), "{p50}");
    assert!(
        close(found.used_ns[0], host::float(found.lasted_ns)),
        "never idle"
    );
}

#[test]
fn a_second_core_helps_a_second_user_and_a_third_shares() {
    let two = Deployment {
        n_replicas: 2,
        n_per_host: 2,
        n_cores: 2,
        choice: Choice::LeastLoaded,
        ..plan()
    };
    let users = |n_users| Closed {
        n_users,
        ..ONE_USER
    };
    let one = World::play_closed(&two, users(1)).unwrap().throughput();
    let four = World::play_closed(&two, users(4)).unwrap().throughput();
    assert!(close(one, 1000.0 / 115.0), "{one}");
    assert!(
        (0.8..=1.01).contains(&(four / (2.0 * one))),
        "all of two cores: {four}"
    );
}

#[test]
fn random_models_are_found_as_often_as_there_is_room_for_them() {
    let plan = Deployment {
        size: Size {
            max_models: 25,
            ..plan().size
        },
        ..plan()
    };
    let even = Closed {
        n_models: 50,
        n_warm_up: 200,
        n_requests: 4000,
        exponent: 0.0,
        ..ONE_USER
    };
    let found = World::play_closed(&plan, even).unwrap();
    assert!(
        (found.hit_rate() - 0.5).abs() < 0.03,
        "{}",
        found.hit_rate()
    );
}

#[test]
fn homes_share_the_models_among_them_and_chance_does_not() {
    let plan = |choice| Deployment {
        n_replicas: 3,
        n_per_host: 3,
        choice,
        size: Size {
            max_models: 25,
            ..plan().size
        },
        ..plan()
    };
    let zipf = Closed {
        n_users: 3,
        n_models: 60,
        n_warm_up: 300,
        n_requests: 2000,
        ..ONE_USER
    };
    let hits = |choice| World::play_closed(&plan(choice), zipf).unwrap().hit_rate();
    let (home, chance) = (hits(Choice::Hash), hits(Choice::Random));
    assert!(home > 0.93, "60 over 3 that hold 25: {home}");
    assert!((0.6..0.8).contains(&chance), "{chance}");
}

#[test]
fn a_full_door_refuses_and_its_places_come_back() {
    let small = Deployment {
        size: Size {
            max_sessions: 1,
            ..plan().size
        },
        ..plan()
    };
    let found = World::play(&small, &SMALL, 0).unwrap();
    // 300 conversations of 200 s in a day: 1.5 at a time in the morning, of which Erlang's formula refuses 60 %, and few at night.
    let refused = share_of(found.n_refused_conversations, found.n_conversations);
    assert!((0.3..0.7).contains(&refused), "{refused}");
    assert_eq!((found.n_refused_calls, found.max_open), (0, 1));
    assert_eq!(found.call_us.len(), 150);
}

#[test]
fn frames_come_in_time_where_there_is_a_core_for_them_and_not_where_there_is_none() {
    let morning = Pattern {
        hours: (9, 12),
        ..SMALL
    };
    let of = |frame_ns| {
        let costs = Costs {
            frame_ns,
            ..plan().costs
        };
        World::play(&Deployment { costs, ..plan() }, &morning, 0).unwrap()
    };
    // 1.5 conversations, half of the time speaking: 19 frames a second.
    let (quick, slow) = (of(MS), of(40 * MS));
    assert_eq!(quick.n_skipped_frames, 0);
    assert!(slow.skipped() > 0.05, "{}", slow.skipped());
    let first = quick.first_frame_us.value_at_quantile(0.5);
    assert!((3_900..6_000).contains(&first), "2 x (1 + 1) ms: {first}");
    let n_expected = 76 * 200 / 2 * 25;
    let n = quick.n_live_frames;
    assert!(
        (n_expected * 6 / 10..n_expected * 14 / 10).contains(&n),
        "{n}"
    );
}

#[test]
fn a_seed_is_a_day() {
    let hour = Pattern {
        hours: (10, 11),
        ..SMALL
    };
    let day = |seed| {
        let found = World::play(&Deployment { seed, ..plan() }, &hour, 0).unwrap();
        (
            found.n_live_frames,
            found.n_skipped_frames,
            found.call_us.max(),
        )
    };
    assert_eq!(day(1), day(1));
    assert_ne!(day(1), day(2));
}

fn share_of(part: u64, all: u64) -> f64 {
    crate::found::share(part, all)
}
