use super::*;

fn at(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

/// A clock of 25 frames/s that began with frame 0 and lost `lost_ms` before frame 10.
fn stalled(start: Instant, lost_ms: u64) -> Pacer {
    let mut pacer = Pacer::new(Fps::at_least_1(25));
    pacer.start(0, start, None);
    pacer.hold(10, at(start, 400 + lost_ms));
    pacer
}

#[test]
fn a_day_does_not_drift() {
    let start = Instant::now();
    for fps in [20, 25, 30, 60] {
        let mut pacer = Pacer::new(Fps::at_least_1(fps));
        assert_eq!(pacer.due(0), None);
        pacer.start(0, start, None);
        let day = u64::from(fps) * 24 * 3600;
        for n in (0..=day).step_by(7) {
            let nanos = n * 1_000_000_000 / u64::from(fps);
            assert_eq!(pacer.due(n), Some(start + Duration::from_nanos(nanos)));
        }
        assert_eq!(pacer.due(day), Some(start + Duration::from_secs(24 * 3600)));
    }
}

#[test]
fn a_hold_moves_all_that_follows() {
    let start = Instant::now();
    let mut pacer = Pacer::new(Fps::at_least_1(25));
    pacer.start(5, at(start, 1000), None);
    assert_eq!(pacer.due(4), Some(at(start, 960)));
    pacer.hold(10, at(start, 1190));
    assert_eq!(
        pacer.due(10),
        Some(at(start, 1200)),
        "it is due later anyway"
    );
    pacer.hold(10, at(start, 1300));
    assert_eq!(pacer.due(11), Some(at(start, 1340)));
}

#[test]
fn what_is_owed_is_given_back_a_tenth_at_a_time_and_no_more() {
    let start = Instant::now();
    let mut pacer = stalled(start, 900);
    let mut last = pacer.due(9).unwrap();
    for n in 10..600 {
        let due = pacer.due(n).unwrap();
        assert!(due >= at(start, 40 * n), "frame {n} is too early");
        let interval = due.saturating_duration_since(last);
        assert!(
            n == 10 || (36..=40).contains(&interval.as_millis()),
            "{interval:?}"
        );
        // All the audio has come in one piece.
        pacer.sent(n, at(start, 1200));
        last = due;
    }
    assert_eq!(pacer.due(600), Some(at(start, 40 * 600)));
}

#[test]
fn audio_without_backlog_is_not_hurried() {
    let start = Instant::now();
    let mut pacer = stalled(start, 900);
    for n in 10..600 {
        let due = pacer.due(n).unwrap();
        assert_eq!(due, at(start, 900 + 40 * n));
        // Packets of half a second, the last frame of each 60 ms before it is due.
        let in_packet = (n - 10) % 12;
        pacer.sent(
            n,
            due.checked_sub(Duration::from_millis(40 + 40 * in_packet))
                .unwrap(),
        );
    }
}

#[test]
fn after_a_pause_and_after_an_interruption_nothing_is_owed() {
    let start = Instant::now();
    let mut paused = stalled(start, 2100);
    let mut interrupted = stalled(start, 900);
    interrupted.start(10, at(start, 500), None);
    for (pacer, lost_ms) in [(&mut paused, 2100), (&mut interrupted, 900)] {
        for n in 10..200 {
            pacer.sent(n, start);
        }
        assert_eq!(pacer.due(200), Some(at(start, lost_ms + 8000)));
    }
}

#[test]
fn who_stalls_often_is_watched_for_longer() {
    let start = Instant::now();
    let mut pacer = stalled(start, 500);
    let mut n = 10;
    let mut waited = Vec::new();
    for _ in 0..6 {
        let began = n;
        let heard = pacer.due(n).unwrap() - FRAME_BUFFER;
        let lost = pacer.clock.owed();
        while pacer.clock.owed() == lost {
            pacer.sent(n, heard);
            n += 1;
        }
        waited.push(n - began);
        pacer.hold(n, pacer.due(n).unwrap() + Duration::from_millis(100));
    }
    assert_eq!(waited, [26, 51, 101, 201, 401, 401]);
}
