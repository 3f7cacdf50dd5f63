use super::*;

const RULES: WatchRules = WatchRules {
    latency: Some(0.2),
    throughput: Some(0.15),
    errors: Some(0.01),
    memory: Some(0.95),
    act_after_s: 30,
    undo_after_s: 60,
};

const USUALLY: Measured = Measured {
    n_jobs: 100,
    frame_time_s: 0.050,
    work_per_s: 1000.0,
    is_full: true,
    n_calls: 100,
    n_failed: 0,
    memory: 0.5,
};

/// Steps over time: what is measured is `bad` between two moments, and usual before and after.
fn play(
    rules: &WatchRules,
    bad: Measured,
    from_s: u64,
    to_s: u64,
) -> Vec<(u64, Posture, &'static str)> {
    let mut watch = Watch::default();
    let mut seen = Vec::new();
    for now_s in (0..3600).step_by(10) {
        let is_bad = (from_s..to_s).contains(&now_s);
        let is = if is_bad { bad } else { USUALLY };
        if let Some(step) = watch.look(rules, &is, now_s) {
            assert_eq!(step.now, watch.posture());
            seen.push((now_s, step.now, step.cause.name()));
        }
    }
    seen
}

#[test]
fn what_is_worse_than_usual_is_acted_on_step_by_step_and_undone_when_it_is_over() {
    let slow = Measured {
        frame_time_s: 0.061,
        ..USUALLY
    };
    let failing = Measured {
        n_failed: 2,
        ..USUALLY
    };
    let less = Measured {
        work_per_s: 840.0,
        ..USUALLY
    };
    for (bad, name) in [(slow, "latency"), (failing, "errors"), (less, "throughput")] {
        let expected = [
            (630, STEPS[1], name),
            (660, STEPS[2], name),
            (960, STEPS[1], "over"),
            (1020, Posture::USUAL, "over"),
        ];
        assert_eq!(play(&RULES, bad, 600, 900), expected);
    }
    let tight = Measured {
        memory: 0.85,
        ..slow
    };
    let seen = play(&RULES, tight, 600, 700);
    assert_eq!(
        seen[2],
        (690, STEPS[3], "latency"),
        "caches go where memory is short"
    );
}

#[test]
fn what_is_nearly_as_usual_or_short_or_says_nothing_moves_nothing() {
    let nearly = Measured {
        frame_time_s: 0.059,
        work_per_s: 860.0,
        n_failed: 1,
        ..USUALLY
    };
    assert_eq!(play(&RULES, nearly, 600, 900), []);
    let bad = Measured {
        frame_time_s: 9.0,
        n_failed: 50,
        ..USUALLY
    };
    assert_eq!(
        play(&RULES, bad, 600, 630),
        [],
        "over before the first step"
    );
    let few = Measured {
        n_jobs: 19,
        n_calls: 19,
        is_full: false,
        ..bad
    };
    assert_eq!(play(&RULES, few, 600, 900), []);
    let slow = Measured { n_failed: 0, ..bad };
    assert_eq!(play(&RULES, slow, 0, 40), [], "nothing is usual yet");
    let off = WatchRules {
        latency: None,
        throughput: None,
        errors: None,
        ..RULES
    };
    assert_eq!(play(&off, bad, 600, 900), []);
}

#[test]
fn what_lasts_is_usual_from_then_on() {
    let slow = Measured {
        frame_time_s: 0.1,
        ..USUALLY
    };
    let seen = play(&RULES, slow, 600, 3000);
    let expected = [
        (630, STEPS[1], "latency"),
        (660, STEPS[2], "latency"),
        (1230, Posture::USUAL, "new_normal"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn short_memory_shrinks_caches_and_batches_before_anything_is_refused() {
    let mut watch = Watch::default();
    let mut seen = Vec::new();
    for now_s in 0..400 {
        let ratio = match now_s {
            100..160 => 0.96,
            160..180 => 0.93,
            _ => 0.5,
        };
        if let Some(step) = watch.look_at_memory(&RULES, ratio, now_s) {
            seen.push((now_s, step.now, step.cause.name()));
        }
    }
    let expected = [
        (100, MEMORY_STEPS[1], "memory"),
        (110, MEMORY_STEPS[2], "memory"),
        (120, MEMORY_STEPS[3], "memory"),
        (240, MEMORY_STEPS[2], "over"),
        (300, MEMORY_STEPS[1], "over"),
        (360, Posture::USUAL, "over"),
    ];
    assert_eq!(seen, expected);
    let unknown = watch.look_at_memory(&RULES, f64::NAN, 400);
    assert_eq!(unknown, None);
    let off = WatchRules {
        memory: None,
        ..RULES
    };
    assert_eq!(watch.look_at_memory(&off, 0.99, 401), None);
}

#[test]
fn steps_for_memory_and_for_speed_add_up_and_all_are_taken_back_at_once() {
    let mut watch = Watch::default();
    let failing = Measured {
        n_failed: 9,
        ..USUALLY
    };
    for now_s in [0, 10, 20, 30] {
        watch.look(&RULES, &failing, now_s);
    }
    let step = watch.look_at_memory(&RULES, 0.99, 31).unwrap();
    let both = Posture {
        batch_divisor: 2,
        sheds_low: false,
        cache_percent: 50,
    };
    assert_eq!((step.before, step.now), (STEPS[1], both));
    let step = watch.switch_off().unwrap();
    assert_eq!((step.now, step.cause), (Posture::USUAL, Cause::SwitchedOff));
    assert_eq!(watch.switch_off(), None);
}
