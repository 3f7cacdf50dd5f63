//! Sessions that go on where another one was cut.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    super::Rules,
    pacing::{idling, intervals},
    stage::{Seen, Stage, assert_contiguous, ms, rules},
};
use crate::{Notice, Outgoing, Position};

/// Two utterances, with silence in the first one.
fn speech() -> [Vec<u8>; 2] {
    let bursts = [[1; 20].as_slice(), &[0; 30], &[1; 25], &[0; 3], &[1; 12]];
    [bursts.concat(), vec![1; 15]]
}

/// Says what has not ended, from a position on.
fn say(stage: &mut Stage, (from, ended): (Position, u64)) {
    let (begun, n_shown) = from.segment.map_or((ended + 1, 0), |segment| {
        (segment.segment_id.max(ended + 1), segment.n_frames)
    });
    for (id, audio) in (1..).zip(speech()).filter(|&(id, _)| id >= begun) {
        let is_begun = from.segment.is_some_and(|segment| segment.segment_id == id);
        let n_shown = if is_begun { n_shown } else { 0 };
        stage.speak(id, &audio[usize::try_from(n_shown).unwrap()..]);
        stage.end(id);
    }
}

/// The frames up to a time, and what a client knows then: a position, and the last segment that has ended.
fn before(rules: Rules, cut_ms: u64) -> (Vec<Seen>, (Position, u64)) {
    let start = Position::start(0, rules.shows_idle);
    let mut stage = Stage::resuming(rules, start);
    say(&mut stage, (start, 0));
    stage.play(cut_ms);
    let last = stage
        .sent
        .iter()
        .rev()
        .find_map(|(_, message)| match message {
            Outgoing::Frame(frame) => Some(frame.position),
            Outgoing::Notice(_) => None,
        });
    let ended = stage
        .sent
        .iter()
        .rev()
        .find_map(|(_, message)| match message {
            Outgoing::Notice(Notice::SegmentEnd(end)) => Some(end.segment_id),
            _ => None,
        });
    (
        stage.frames(),
        (last.unwrap_or(start), ended.unwrap_or_default()),
    )
}

/// Weights of all frames: how much of each face is the network's.
fn looks(stage: &Stage) -> Vec<(u64, u8)> {
    let frames = stage.sent.iter().filter_map(|(_, message)| match message {
        Outgoing::Frame(frame) => Some((frame.position.n_frames, frame.position.weight)),
        Outgoing::Notice(_) => None,
    });
    frames.collect()
}

fn without_times(frames: &[Seen]) -> Vec<Seen> {
    frames.iter().map(|f| Seen { at_ms: 0, ..*f }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn where_no_frame_is_idle_both_halves_are_the_frames_of_one_session(
        cut_ms in 0..4000u64,
        is_realtime in any::<bool>(),
    ) {
        let rules = Rules { is_realtime, ..rules() };
        let (whole, _) = before(rules, 8_000);
        let (mut seen, known) = before(rules, cut_ms);
        let mut stage = Stage::resuming(rules, known.0);
        say(&mut stage, known);
        stage.play(8_000);
        seen.extend(stage.frames());
        assert_eq!(without_times(&seen), without_times(&whole));
        assert_contiguous(&seen);
    }

    #[test]
    fn faces_fade_as_if_nothing_had_happened(cut_ms in 0..4000u64) {
        let rules = Rules { is_realtime: false, ..idling() };
        let mut unbroken = Stage::new(rules);
        say(&mut unbroken, (Position::start(0, true), 0));
        unbroken.play(8_000);
        let (seen, known) = before(rules, cut_ms);
        let mut stage = Stage::resuming(rules, known.0);
        say(&mut stage, known);
        stage.play(8_000);
        assert_eq!(looks(&stage), looks(&unbroken)[seen.len()..]);
    }

    #[test]
    fn idle_frames_repeat_and_lose_nothing(cut_ms in 0..6000u64, silent_ms in 0..900u64) {
        let (mut seen, known) = before(idling(), cut_ms);
        let mut stage = Stage::resuming(idling(), known.0);
        // What the client takes to learn of its session, and to send.
        stage.play(silent_ms);
        say(&mut stage, known);
        stage.play(8_000);
        seen.extend(stage.frames());
        assert_contiguous(&seen);
        let shown: Vec<_> = seen.iter().filter_map(|f| Some((f.segment, f.n?))).collect();
        let unique: BTreeSet<_> = shown.iter().copied().collect();
        assert_eq!(shown.len(), unique.len(), "nothing twice");
        let expected = (1..).zip(speech()).flat_map(|(id, audio)| {
            (0..audio.len() as u64).map(move |n| (id, n))
        });
        assert!(unique.into_iter().eq(expected), "nothing lost");
        assert_eq!(stage.warnings(), 0);
    }
}

#[test]
fn a_paced_session_resumes_at_once_and_keeps_its_rate() {
    let (seen, known) = before(idling(), 1000);
    let position = known.0;
    assert!(position.segment.is_some() && seen.len() > 20);
    let mut stage = Stage::resuming(idling(), position);
    stage.play(30);
    say(&mut stage, known);
    stage.play(2000);
    let frames = stage.frames();
    assert_eq!(frames[0].n, position.segment.map(|s| s.n_frames));
    assert!(frames[0].at_ms <= 150, "{}", frames[0].at_ms);
    assert!(intervals(&frames).iter().all(|&interval| interval == 40));
}

#[test]
fn the_face_rests_when_the_audio_does_not_come_back() {
    let (_, (position, _)) = before(idling(), 1000);
    let mut stage = Stage::resuming(idling(), position);
    stage.play(5000);
    let frames = stage.frames();
    assert!(frames.iter().all(|frame| frame.n.is_none()));
    assert!(
        (480..=560).contains(&frames[0].at_ms),
        "{}",
        frames[0].at_ms
    );
    assert_eq!(frames[0].pts_us, position.n_frames * 40_000);
    assert!(frames.len() > 100);
}

#[test]
fn an_interruption_is_known_to_the_session_that_resumes() {
    let mut stage = Stage::new(idling());
    say(&mut stage, (Position::start(0, true), 0));
    stage.play(1000);
    stage.clear(None);
    stage.play(200);
    let position = stage
        .sent
        .iter()
        .rev()
        .find_map(|(_, message)| match message {
            Outgoing::Frame(frame) => Some(frame.position),
            Outgoing::Notice(_) => None,
        });
    let position = position.unwrap();
    assert_eq!((position.segment, position.is_idle), (None, true));
    let mut stage = Stage::resuming(idling(), position);
    stage.cost = (ms(5), ms(10));
    stage.speak(3, &[1; 10]);
    stage.end(3);
    stage.play(2000);
    let spoken: Vec<_> = stage.frames().iter().filter_map(|f| f.n).collect();
    assert_eq!(spoken, (0..10).collect::<Vec<_>>());
}
