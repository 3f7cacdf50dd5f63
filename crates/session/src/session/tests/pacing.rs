use lipsync_core::Fps;

use crate::{Notice, Outgoing};

use super::{
    super::Rules,
    stage::{Seen, Stage, assert_contiguous, rules},
};

pub(super) fn intervals(frames: &[Seen]) -> Vec<u64> {
    frames.windows(2).map(|w| w[1].at_ms - w[0].at_ms).collect()
}

pub(super) fn idling() -> Rules {
    Rules {
        shows_idle: true,
        ..rules()
    }
}

#[test]
fn a_burst_of_audio_leaves_at_its_time() {
    let mut stage = Stage::new(rules());
    stage.speak(1, &[1; 500]);
    stage.end(1);
    stage.play(30_000);
    let frames = stage.frames();
    assert_eq!(frames.len(), 500);
    assert_contiguous(&frames);
    // Never more than the limit waits, and two frames are made first.
    assert_eq!(frames[0].at_ms, 5 + 2 * 10 + 40);
    for (n, frame) in (0..).zip(&frames) {
        assert_eq!((frame.at_ms, frame.n), (65 + 40 * n, Some(n)));
    }
    assert!(matches!(
        stage.sent.last(),
        Some((_, Outgoing::Notice(Notice::SegmentEnd(_))))
    ));
}

#[test]
fn a_day_of_live_speech_does_not_drift() {
    let mut stage = Stage::new(Rules {
        fps: Fps::at_least_1(25),
        ..rules()
    });
    let n_hours = 24;
    for _ in 0..n_hours * 3600 {
        stage.speak(1, &[1; 25]);
        stage.play(1000);
        stage.sent.drain(..stage.sent.len() - 1);
    }
    let last = stage.frames()[0];
    let n = last.n.unwrap();
    assert_eq!(
        last.at_ms,
        65 + 40 * n,
        "frame {n} is on time to the millisecond"
    );
    assert!(n > n_hours * 3600 * 25 - 10);
    assert_eq!(stage.warnings(), 0);
}

#[test]
fn jitter_of_the_audio_moves_the_clock_once() {
    let mut stage = Stage::new(rules());
    // 100 ms of audio every 100 ms, one packet late by 90 ms.
    for packet in 0..100u64 {
        let late = if packet == 30 { 90 } else { 0 };
        stage.play(late);
        stage.speak(
            1,
            if packet.is_multiple_of(2) {
                &[1; 2]
            } else {
                &[1; 3]
            },
        );
        stage.play(100 - late);
    }
    let frames = stage.frames();
    assert_contiguous(&frames);
    let long = intervals(&frames).iter().filter(|&&ms| ms > 60).count();
    assert!(long <= 3, "{:?}", intervals(&frames));
    assert!(
        intervals(&frames)[90..]
            .iter()
            .all(|ms| (36..=40).contains(ms))
    );
    let last = frames.last().unwrap();
    let late = last.at_ms - (65 + 40 * last.n.unwrap());
    assert!(late < 40, "it is made up for, but for {late} ms");
    assert_eq!(stage.warnings(), 0, "late audio is not a late server");
}

#[test]
fn without_audio_the_stream_stands_still_and_goes_on() {
    let mut stage = Stage::new(rules());
    stage.speak(1, &[1; 10]);
    stage.play(5000);
    assert_eq!(stage.frames().len(), 10);
    stage.speak(1, &[1; 10]);
    stage.play(5000);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let n: Vec<u64> = frames.iter().filter_map(|f| f.n).collect();
    assert_eq!(n, (0..20).collect::<Vec<_>>());
    assert!(frames[10].at_ms < 5000 + 150, "as soon as it can");
    assert!(intervals(&frames[10..]).iter().all(|&ms| ms == 40));
}

#[test]
fn idle_frames_fill_pauses_without_a_gap() {
    let mut stage = Stage::new(idling());
    stage.play(1013);
    let asked = 1013;
    stage.speak(1, &[1; 50]);
    stage.end(1);
    stage.play(6000);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let off = intervals(&frames).iter().filter(|&&ms| ms != 40).count();
    assert!(off <= 1, "{:?}", intervals(&frames));
    assert!(intervals(&frames).iter().all(|&ms| ms <= 60));
    let first = frames.iter().position(|f| f.n == Some(0)).unwrap();
    assert!(
        frames[first].at_ms <= asked + 150,
        "{}",
        frames[first].at_ms
    );
    assert!(
        frames[..first]
            .iter()
            .all(|f| !f.generated && f.segment == 0)
    );
    // The mouth comes to rest in frames that belong to nobody.
    let rest = &frames[first + 50..];
    let generated: Vec<bool> = rest.iter().map(|f| f.generated).collect();
    assert_eq!(generated[..5], [true, true, true, false, false]);
    assert!(rest.iter().all(|f| f.segment == 0 && f.n.is_none()));
    assert_eq!(stage.warnings(), 0);
}

#[test]
fn audio_that_stays_away_lets_the_face_rest_and_speech_goes_on_where_it_was() {
    let mut stage = Stage::new(idling());
    stage.speak(1, &[1; 20]);
    stage.play(3000);
    stage.speak(1, &[1; 20]);
    stage.play(3000);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let n: Vec<u64> = frames.iter().filter_map(|f| f.n).collect();
    assert_eq!(n, (0..40).collect::<Vec<_>>());
    let last = frames.iter().position(|f| f.n == Some(19)).unwrap();
    let pause = frames[last + 1].at_ms - frames[last].at_ms;
    assert!(
        (220..=260).contains(&pause),
        "held for a moment first: {pause}"
    );
    assert!(frames[last + 1].n.is_none());
}

#[test]
fn silence_costs_no_network() {
    let mut stage = Stage::new(idling());
    stage.speak(1, &[vec![1; 20], vec![0; 1500], vec![1; 20]].concat());
    stage.end(1);
    stage.play(70_000);
    // Two fades at the edges of the silence and one after the end.
    let fade = 3;
    assert_eq!(stage.n_network, 20 + fade + 20 + fade);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let speech: Vec<&Seen> = frames.iter().filter(|f| f.n.is_some()).collect();
    assert_eq!(speech.len(), 1540);
    assert!(!speech[23].generated && !speech[1519].generated && speech[1520].generated);
}

#[test]
fn a_slow_network_costs_pictures_and_not_time() {
    let mut stage = Stage::new(rules());
    stage.cost.1 = super::stage::ms(70);
    stage.speak(1, &[1; 500]);
    stage.end(1);
    stage.play(40_000);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let n: Vec<u64> = frames.iter().filter_map(|f| f.n).collect();
    assert_eq!(n, (0..500).collect::<Vec<_>>(), "no audio is skipped");
    let start = frames[0].at_ms;
    for (n, frame) in (0..).zip(&frames) {
        let late = frame.at_ms - (start + 40 * n);
        assert!(late < 800, "frame {n} is {late} ms late");
    }
    let n_generated = frames.iter().filter(|f| f.generated).count();
    assert!((150..400).contains(&n_generated), "{n_generated}");
    assert!((1..=21).contains(&stage.warnings()), "{}", stage.warnings());
}

#[test]
fn a_reader_that_comes_back_sees_now_and_not_then() {
    let mut stage = Stage::new(rules());
    stage.speak(1, &[1; 500]);
    stage.play(1000);
    stage.reads = false;
    stage.play(4000);
    stage.reads = true;
    stage.play(1000);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let last = frames.last().unwrap();
    assert!(last.at_ms - (frames[0].at_ms + 40 * last.n.unwrap()) <= 40);
}

#[test]
fn as_soon_as_possible_is_as_soon_as_possible() {
    let mut stage = Stage::new(Rules {
        is_realtime: false,
        max_queued_frames: 50,
        ..idling()
    });
    stage.speak(1, &[1; 500]);
    stage.end(1);
    stage.play(500 * 20);
    let frames = stage.frames();
    assert_contiguous(&frames);
    assert_eq!(frames.len(), 500);
    stage.play(5000);
    assert_eq!(stage.frames().len(), 500, "no idle frames between segments");
}

#[test]
fn a_reader_that_was_away_for_long_catches_up() {
    let mut stage = Stage::new(rules());
    stage.cost.1 = super::stage::ms(30);
    stage.speak(1, &[1; 2500]);
    stage.play(2000);
    stage.reads = false;
    stage.play(50_000);
    stage.reads = true;
    stage.play(30_000);
    assert_eq!(stage.failure, None);
    let frames = stage.frames();
    let last = frames.last().unwrap();
    assert!(last.at_ms - (frames[0].at_ms + 40 * last.n.unwrap()) <= 120);
}

#[test]
fn a_server_too_slow_for_pictures_alone_says_so_and_ends() {
    for rules in [rules(), idling()] {
        let mut stage = Stage::new(rules);
        stage.cost.1 = super::stage::ms(70);
        stage.idle_cost = super::stage::ms(50);
        for _ in 0..120 {
            stage.speak(1, &[1; 25]);
            stage.play(1000);
        }
        let (at_ms, why) = stage.failure.clone().expect("it ends");
        assert!(at_ms < 30_000, "{at_ms}");
        assert!(why.contains("too slow"), "{why}");
        let frames: Vec<Seen> = stage
            .frames()
            .into_iter()
            .filter(|f| f.n.is_some())
            .collect();
        let last = frames.last().unwrap();
        let late = last.at_ms - (frames[0].at_ms + 40 * last.n.unwrap());
        assert!((1000..8000).contains(&late), "{late}");
        assert!(stage.warnings() > 5, "and was announced");
    }
}
