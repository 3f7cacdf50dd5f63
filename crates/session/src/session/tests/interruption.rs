use std::collections::{BTreeSet, VecDeque};

use crate::{Notice, Outgoing};
use proptest::prelude::*;

use super::{
    super::Rules,
    stage::{Stage, assert_contiguous, rules},
};

#[derive(Debug, Clone)]
enum Act {
    /// Audio for the newest segment, or the next one.
    Speak {
        begins: bool,
        frames: Vec<u8>,
    },
    End,
    /// Clears the segment so far back, or everything.
    Clear(Option<u64>),
    Play(u64),
    /// The client stops or goes on reading.
    Read(bool),
}

fn act() -> impl Strategy<Value = Act> {
    let frames = prop::collection::vec(0..2u8, 0..40);
    prop_oneof![
        4 => (any::<bool>(), frames).prop_map(|(begins, frames)| Act::Speak { begins, frames }),
        1 => Just(Act::End),
        2 => prop::option::of(0..4u64).prop_map(Act::Clear),
        4 => (0..400u64).prop_map(Act::Play),
        1 => any::<bool>().prop_map(Act::Read),
    ]
}

/// Plays the acts, and says which segments were never cleared, and the newest one at each clear.
fn play(stage: &mut Stage, acts: &[Act]) -> (BTreeSet<u64>, VecDeque<u64>) {
    let (mut newest, mut is_open) = (0, false);
    let (mut whole, mut newest_at_clear) = (BTreeSet::new(), VecDeque::new());
    for act in acts {
        match act {
            Act::Speak { begins, frames } => {
                if *begins || !is_open {
                    newest += 1;
                    whole.insert(newest);
                }
                is_open = true;
                stage.speak(newest, frames);
            }
            Act::End => {
                stage.end(newest);
                is_open = false;
            }
            Act::Clear(back) => {
                let cleared = back.map(|back| newest.saturating_sub(back).max(1));
                stage.clear(cleared);
                newest_at_clear.push_back(newest);
                match cleared {
                    Some(id) => whole.remove(&id),
                    None => {
                        whole.clear();
                        true
                    }
                };
                is_open &= cleared.is_some_and(|id| id != newest);
                // Ids are never reused, not even those cleared before they began.
                newest = newest.max(cleared.unwrap_or(0));
            }
            Act::Play(duration_ms) => stage.play(*duration_ms),
            Act::Read(reads) => stage.reads = *reads,
        }
    }
    (whole, newest_at_clear)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_frame_of_a_cleared_segment_follows_and_the_others_are_whole(
        acts in prop::collection::vec(act(), 1..30),
        is_realtime in any::<bool>(),
        shows_idle in any::<bool>(),
        slowness in 1..60u64,
    ) {
        let mut stage = Stage::new(Rules { is_realtime, shows_idle, ..rules() });
        stage.cost.1 = super::stage::ms(slowness);
        let (whole, mut newest_at_clear) = play(&mut stage, &acts);
        stage.reads = true;
        stage.session.finish_input(std::time::Instant::now());
        stage.play(200_000);

        let (mut last, mut cleared_to, mut cleared) = (None, 0, BTreeSet::new());
        let mut newest_sent = 0;
        for (_, message) in &stage.sent {
            match message {
                Outgoing::Frame(frame) if frame.segment_id == 0 => last = Some((frame.pts_us, None)),
                Outgoing::Frame(frame) => {
                    let id = frame.segment_id;
                    prop_assert!(id > cleared_to && !cleared.contains(&id), "segment {id}");
                    prop_assert!(id >= newest_sent, "segments play in order");
                    newest_sent = id;
                    last = Some((frame.pts_us, frame.audio_time_us));
                }
                Outgoing::Notice(Notice::Cleared(answer)) => {
                    prop_assert_eq!(answer.last_pts_us, last.map(|l| l.0));
                    prop_assert_eq!(answer.last_audio_time_us, last.and_then(|l| l.1));
                    let newest = newest_at_clear.pop_front();
                    match answer.segment_id {
                        Some(id) => { cleared.insert(id); }
                        None => cleared_to = newest.unwrap_or_default(),
                    }
                }
                Outgoing::Notice(Notice::SegmentEnd(end)) => {
                    let id = end.segment_id;
                    prop_assert!(id > cleared_to && !cleared.contains(&id), "end of segment {id}");
                }
                _ => {}
            }
        }
        let frames = stage.frames();
        assert_contiguous(&frames);
        let n_asked = acts.iter().filter(|act| matches!(act, Act::Clear(_))).count();
        let n_answered = stage.sent.iter().filter(|(_, m)| matches!(m, Outgoing::Notice(Notice::Cleared(_)))).count();
        prop_assert_eq!(n_answered, n_asked);
        for id in whole {
            let n: Vec<u64> = frames.iter().filter(|f| f.segment == id).filter_map(|f| f.n).collect();
            prop_assert_eq!(&n, &(0..n.len() as u64).collect::<Vec<_>>(), "segment {}", id);
            let ended = stage.sent.iter().any(|(_, message)| {
                matches!(message, Outgoing::Notice(Notice::SegmentEnd(end)) if end.segment_id == id && end.n_frames == n.len() as u64)
            });
            prop_assert!(ended, "segment {} ends", id);
        }
    }
}

#[test]
fn however_many_clears_came_before_no_frame_follows_one() {
    let mut stage = Stage::new(rules());
    for n in 0..2000 {
        if stage.session.clear(Some(1_000_000 + n)).is_err() {
            break;
        }
        stage.play(0);
    }
    stage.speak(5, &[1; 100]);
    stage.play(1000);
    assert!(!stage.frames().is_empty());
    let n_sent = stage.frames().len();
    stage.clear(Some(5));
    stage.play(5000);
    assert_eq!(stage.frames().len(), n_sent);
}

#[test]
fn an_answer_to_an_interruption_waits_for_nothing() {
    let mut stage = Stage::new(rules());
    stage.cost.1 = super::stage::ms(30);
    stage.speak(1, &[1; 100]);
    stage.speak(2, &[1; 100]);
    stage.play(1000);
    stage.clear(Some(2));
    stage.play(0);
    assert!(matches!(
        stage.sent.last(),
        Some((1000, Outgoing::Notice(Notice::Cleared(_))))
    ));
    stage.clear(Some(1));
    stage.speak(3, &[1; 10]);
    stage.play(2000);
    let frames = stage.frames();
    assert_contiguous(&frames);
    let first = frames.iter().position(|f| f.segment == 3).unwrap();
    assert!(frames[first].at_ms < 1000 + 2 * 30 + 5 + 40 + 10);
    let intervals = frames[first..].windows(2).map(|w| w[1].at_ms - w[0].at_ms);
    assert!(intervals.max().unwrap() <= 60);
}
