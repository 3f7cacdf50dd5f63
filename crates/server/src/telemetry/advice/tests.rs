//! Each rule, driven by its cause over an hour of virtual time.

use std::collections::BTreeMap;

use lipsync_telemetry::{Buckets, Histogram};

use super::{
    Adviser, Setting, State, Totals, Turn,
    evidence::{Keys, ModelNow, ModelTotals},
    rules::RULES,
};
use crate::{config::keys, telemetry::memory::Memory};

const GIB: u64 = 1 << 30;
/// The wall clock at the beginning.
const EPOCH_S: u64 = 1_700_000_000;
/// When the cause begins and ends, seconds.
const CAUSE: std::ops::Range<u64> = 600..1800;

/// A server of two processors and two workers with one model, which is calm.
struct World {
    totals: Totals,
    state: State,
    waits: Histogram,
}

impl World {
    fn new() -> Self {
        let waits = Histogram::new(&Buckets::LATENCY);
        Self {
            totals: Totals {
                at_s: 0,
                models: BTreeMap::new(),
                waits: waits.snapshot(),
                session_frames: 0,
                late_frames: 0,
                skipped_frames: 0,
                session_seconds: 0,
                busy: std::time::Duration::ZERO,
                cpu: std::time::Duration::ZERO,
                refusals: BTreeMap::new(),
                visual_evictions: 0,
            },
            state: State {
                keys: Keys {
                    visual_cache_bytes: GIB,
                    background_cache_frames: 50,
                    max_host_bytes: 3 * GIB / 2,
                    max_models: 2,
                    max_model_bytes: 8 * GIB,
                    has_idle_timeout: false,
                    bake: true,
                    n_workers: 2,
                    queue_size: 100,
                    max_sessions: 100,
                    max_upload_bytes: GIB / 2,
                    max_unsent_bytes: GIB,
                },
                n_cpus: 2,
                n_devices: 1,
                is_gpu: false,
                memory: Some(Memory {
                    total: 16 * GIB,
                    available: 8 * GIB,
                }),
                gpu_free_bytes: None,
                visual_bytes: GIB,
                frame_bytes: GIB / 4,
                models: ["mira", "tomo", "zoe"].map(model).into(),
            },
            waits,
        }
    }

    /// Ten seconds in which two models are used; `busy_percent` of the workers' time.
    fn pass(&mut self, busy_percent: u64) {
        let totals = &mut self.totals;
        totals.at_s += 10;
        totals.busy += std::time::Duration::from_millis(200 * busy_percent);
        totals.cpu += std::time::Duration::from_millis(200 * busy_percent);
        totals.session_seconds += 10 * 40;
        totals.session_frames += 1000;
        for id in ["mira", "tomo"] {
            let model = totals.models.entry(id.into()).or_default();
            model.frames += 500;
            model.requests += 500;
            model.hits += 499;
            model.visual_requests += 500;
            model.visual_hits += 495;
            model.uses += 5;
        }
        self.totals.waits = self.waits.snapshot();
    }

    fn mira(&mut self) -> &mut ModelTotals {
        self.totals.models.entry("mira".into()).or_default()
    }

    fn refuse(&mut self, reason: &str, n: u64) {
        *self.totals.refusals.entry(reason.into()).or_default() += n;
    }
}

/// 200 frames of 100 kB, and 6 MB each in the visual cache. Only the first two are in memory.
fn model(id: &str) -> ModelNow {
    ModelNow {
        id: id.into(),
        is_ready: id != "zoe",
        n_frames: 200,
        weight_bytes: if id == "zoe" { 0 } else { GIB / 10 },
        frame_bytes: 100_000,
        entry_bytes: 6_000_000,
        cache_frames: 50,
        has_pack: true,
        idle_s: 0,
        faster: None,
    }
}

/// An hour in which `cause` is there for a while; what was advised, when, and when it was over.
fn hour(busy_percent: u64, cause: impl Fn(&mut World)) -> Vec<(u64, Turn)> {
    let (mut world, mut adviser, mut turns) = (World::new(), Adviser::default(), Vec::new());
    while world.totals.at_s < 3600 {
        world.pass(30);
        let at_s = world.totals.at_s;
        if CAUSE.contains(&at_s) {
            world.totals.busy +=
                std::time::Duration::from_millis(200 * busy_percent.saturating_sub(30));
            world.totals.cpu +=
                std::time::Duration::from_millis(200 * busy_percent.saturating_sub(30));
            cause(&mut world);
        } else if at_s > CAUSE.end + 600 {
            // By then, nothing of the cause is evidence any more.
            world.state = World::new().state;
        }
        let found = adviser.look(world.totals.clone(), &world.state, EPOCH_S + at_s);
        turns.extend(found.into_iter().map(|turn| (at_s, turn)));
        assert!(adviser.counsels().len() <= RULES.len());
    }
    assert_eq!(
        adviser.counsels(),
        [],
        "nothing holds once its cause is over"
    );
    turns
}

/// The one key that is advised, and its values and cause at first.
fn advised(turns: &[(u64, Turn)]) -> (String, String) {
    let given: Vec<_> = turns
        .iter()
        .filter_map(|(at_s, turn)| match turn {
            Turn::Given(advice) => Some((at_s, advice)),
            Turn::Over(_) => None,
        })
        .collect();
    let (at_s, first) = given.first().expect("advice");
    assert!(CAUSE.contains(at_s), "{turns:?}");
    assert!(
        given.iter().all(|(_, advice)| advice.key == first.key),
        "{turns:?}"
    );
    assert!(
        keys().any(|(key, _)| key == first.key),
        "{} is no key",
        first.key
    );
    assert!(!first.cause.ends_with('.'), "{}", first.cause);
    let over = turns
        .last()
        .map(|(at_s, turn)| (*at_s, matches!(turn, Turn::Over(_))));
    assert!(
        over.is_some_and(|(at_s, is_over)| is_over && at_s > CAUSE.end - 20),
        "{turns:?}"
    );
    (
        format!("{} {} -> {}", first.key, first.from, first.to),
        first.cause.clone(),
    )
}

#[test]
fn a_calm_server_needs_no_advice() {
    assert_eq!(hour(30, |_| {}), []);
}

#[test]
fn a_cause_that_is_over_at_once_is_no_reason() {
    let once = |world: &mut World| {
        if world.totals.at_s == 700 {
            world.totals.visual_evictions += 1;
            world.mira().visual_requests += 10;
        }
    };
    assert_eq!(hour(30, once), []);
}

#[test]
fn a_visual_cache_that_is_too_small() {
    let turns = hour(30, |world| {
        world.totals.visual_evictions += 100;
        for model in world.totals.models.values_mut() {
            model.visual_hits -= 300;
        }
    });
    let (advice, cause) = advised(&turns);
    assert_eq!(advice, "engine.visual_cache_mb 1024 -> 2500");
    assert!(
        cause.contains("visual cache hit rate ") && cause.ends_with("with 2 busy models"),
        "{cause}"
    );
    // Twice the memory is not there to be had.
    let poor = |world: &mut World| {
        world.totals.visual_evictions += 100;
        world.mira().visual_hits -= 400;
        world.state.memory = Some(Memory {
            total: 2 * GIB,
            available: GIB / 4,
        });
    };
    assert_eq!(hour(30, poor), []);
}

#[test]
fn background_frames_that_are_read_again_and_again() {
    let (advice, cause) = advised(&hour(30, |world| world.mira().hits -= 200));
    assert_eq!(advice, "capacity.background_cache_frames 50 -> 200");
    assert!(cause.contains("background frames of mira"), "{cause}");
    // Where all of them together are at their bound, that is the key.
    let turns = hour(30, |world| {
        world.mira().hits -= 200;
        world.state.frame_bytes = world.state.keys.max_host_bytes;
        world.state.models[0].n_frames = 20_000;
    });
    let (advice, _) = advised(&turns);
    assert_eq!(advice, "capacity.max_host_memory_gb 1.5 -> 2.1");
}

#[test]
fn models_that_push_each_other_out() {
    let thrash = |world: &mut World| {
        world.mira().evictions += 1;
        world.totals.models.entry("zoe".into()).or_default().uses += 1;
    };
    let (advice, cause) = advised(&hour(30, thrash));
    assert_eq!(advice, "capacity.max_models 2 -> 3");
    assert!(
        cause.contains("for want of room while 3 were in use"),
        "{cause}"
    );
    let turns = hour(30, |world| {
        thrash(world);
        world.state.keys.max_models = 100;
        world.state.keys.max_model_bytes = GIB / 5;
    });
    assert_eq!(advised(&turns).0, "capacity.max_memory_gb 0.2 -> 0.4");
}

#[test]
fn memory_that_is_almost_full() {
    let full = Memory {
        total: 8 * GIB,
        available: GIB / 2,
    };
    let turns = hour(30, |world| world.state.memory = Some(full));
    let (advice, cause) = advised(&turns);
    assert_eq!(advice, "engine.visual_cache_mb 1024 -> 760");
    assert_eq!(
        cause,
        "93 % of the memory is in use, and the visual cache holds 1024 MiB of it"
    );
    let turns = hour(30, |world| {
        world.state.memory = Some(full);
        world.state.frame_bytes = 3 * GIB / 2;
    });
    assert_eq!(advised(&turns).0, "capacity.max_host_memory_gb 1.5 -> 1.1");
    let turns = hour(30, |world| {
        world.state.memory = Some(full);
        world.state.visual_bytes = 0;
        world.state.models[0].idle_s = 4000;
    });
    let (advice, cause) = advised(&turns);
    assert_eq!(advice, "capacity.idle_timeout_minutes 0 -> 60");
    assert!(
        cause.ends_with("nobody has used 1 model in it for an hour"),
        "{cause}"
    );
}

#[test]
fn packs_that_nobody_bakes_and_slow_numbers() {
    let turns = hour(30, |world| {
        world.state.keys.bake = false;
        world.state.models[0].has_pack = false;
    });
    let (advice, cause) = advised(&turns);
    assert_eq!(advice, "capacity.bake off -> auto");
    assert!(cause.starts_with("mira has no pack"), "{cause}");
    let turns = hour(80, |world| world.state.models[1].faster = Some("bf16"));
    let (advice, cause) = advised(&turns);
    assert_eq!(advice, "engine.precision auto -> bf16");
    assert!(
        cause.contains("tomo runs in f32") && cause.contains("compare-precision"),
        "{cause}"
    );
}

#[test]
fn workers_that_are_too_few_or_too_many() {
    let wait = |world: &mut World| {
        (0..50).for_each(|_| {
            world
                .waits
                .observe_time(std::time::Duration::from_millis(400))
        });
        world.state.n_cpus = 8;
    };
    let (advice, cause) = advised(&hour(100, wait));
    assert_eq!(advice, "server.worker_count 2 -> 8");
    assert!(cause.ends_with("while 6 processors are idle"), "{cause}");
    let crowd = |world: &mut World| {
        world.totals.late_frames += 200;
        world.state.n_cpus = 1;
        world.state.keys.max_sessions = 10;
    };
    let (advice, cause) = advised(&hour(100, crowd));
    assert_eq!(advice, "server.worker_count 2 -> 1");
    assert!(
        cause.starts_with("2 workers share 1 processor, and "),
        "{cause}"
    );
}

#[test]
fn queues_and_places() {
    let (advice, cause) = advised(&hour(30, |world| world.refuse("queue", 3)));
    assert_eq!(advice, "server.queue_size 100 -> 200");
    assert!(
        cause.contains("though workers are only 30 % busy"),
        "{cause}"
    );
    let (advice, _) = advised(&hour(30, |world| world.refuse("sessions", 1)));
    assert_eq!(advice, "session.max_sessions 100 -> 150");
    // Busy workers cannot serve more of them.
    assert_eq!(hour(95, |world| world.refuse("sessions", 1)), []);
    let (advice, cause) = advised(&hour(100, |world| world.totals.late_frames += 300));
    assert!(
        advice.starts_with("session.max_sessions 100 -> "),
        "{advice}"
    );
    assert!(cause.contains("with 40 sessions on average"), "{cause}");
    let (advice, _) = advised(&hour(30, |world| world.refuse("upload_bytes", 1)));
    assert_eq!(advice, "server.max_upload_mb 512 -> 1100");
    let (advice, _) = advised(&hour(30, |world| world.refuse("unread_bytes", 1)));
    assert_eq!(advice, "server.max_unsent_mb 1024 -> 2100");
}

#[test]
fn another_setting_is_judged_anew() {
    let (mut world, mut adviser) = (World::new(), Adviser::default());
    let mut turns = Vec::new();
    for _ in 0..60 {
        world.pass(30);
        // Refusals end when the setting is changed.
        if world.state.keys.max_sessions == 100 {
            world.refuse("sessions", 2);
        }
        if world.totals.at_s == 300 {
            world.state.keys.max_sessions = 150;
        }
        let found = adviser.look(world.totals.clone(), &world.state, world.totals.at_s);
        turns.extend(found.into_iter().map(|turn| (world.totals.at_s, turn)));
    }
    let words = turns.iter().map(|(at_s, turn)| match turn {
        Turn::Given(advice) => format!("{at_s}: {} -> {}", advice.from, advice.to),
        Turn::Over(_) => format!("{at_s}: over"),
    });
    let words: Vec<_> = words.collect();
    assert_eq!(words, ["90: 100 -> 150", "300: over"]);
}

#[test]
fn values_are_written_as_the_configuration_has_them() {
    let words = [
        Setting::Number(7),
        Setting::Tenths(15),
        Setting::Tenths(20),
        Setting::Word("off"),
    ];
    assert_eq!(words.map(|w| w.to_string()), ["7", "1.5", "2", "off"]);
    assert!(Setting::Number(100).is_near(Setting::Number(110)));
    assert!(!Setting::Number(100).is_near(Setting::Number(150)));
}
