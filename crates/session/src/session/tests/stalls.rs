//! Audio that stalls in the middle of a segment: when the frames are back where they would be without.

use proptest::prelude::*;

use super::{
    pacing::{idling, intervals},
    stage::{Seen, Stage, assert_contiguous, rules},
};

/// When the first frame leaves: a batch of two is made, and waits for its time.
const FIRST_MS: u64 = 65;

/// A segment whose audio comes in packets of five frames, each as soon as it is spoken.
struct Voice {
    stage: Stage,
    /// Packets that were spoken and have not come.
    n_stuck: usize,
}

impl Voice {
    fn new(stage: Stage) -> Self {
        Self { stage, n_stuck: 0 }
    }

    /// Packets come in time.
    fn speak(&mut self, n_packets: usize) {
        for _ in 0..n_packets {
            self.stage.speak(1, &[1; 5]);
            self.stage.play(200);
        }
    }

    /// Packets are spoken and stay away.
    fn stall(&mut self, n_packets: usize) {
        self.stage.play(200 * n_packets as u64);
        self.n_stuck += n_packets;
    }

    /// They come, all at once.
    fn burst(&mut self) {
        let n_frames = 5 * std::mem::take(&mut self.n_stuck);
        self.stage.speak(1, &vec![1; n_frames]);
    }

    /// Nothing is said.
    fn pause(&mut self, duration_ms: u64) {
        self.stage.play(duration_ms);
    }
}

/// How much later frame `n` of the segment left than without stalls.
fn late_ms(frame: &Seen) -> u64 {
    let due = FIRST_MS + 40 * frame.n.unwrap();
    frame.at_ms.checked_sub(due).expect("no frame is early")
}

fn spoken(stage: &Stage) -> Vec<Seen> {
    let frames = stage.frames();
    assert_contiguous(&frames);
    let spoken: Vec<Seen> = frames.into_iter().filter(|f| f.n.is_some()).collect();
    for (n, frame) in (0..).zip(&spoken) {
        assert_eq!(frame.n, Some(n), "no audio is skipped");
        late_ms(frame);
    }
    spoken
}

/// The first frame that is at most one frame late and all that follow, too.
fn back_at_ms(frames: &[Seen]) -> u64 {
    let last_late = frames.iter().rposition(|f| late_ms(f) > 40);
    frames[last_late.map_or(0, |n| n + 1)].at_ms
}

#[test]
fn a_stall_is_made_up_for_in_ten_seconds() {
    let mut all = Vec::new();
    for rest_at_once in [true, false] {
        let mut voice = Voice::new(Stage::new(rules()));
        voice.speak(50);
        voice.stall(5);
        if rest_at_once {
            voice.n_stuck += 245;
        }
        voice.burst();
        if rest_at_once {
            voice.pause(49_000 + 2000);
        } else {
            voice.speak(245);
        }
        let frames = spoken(&voice.stage);
        // The stall ended after 11 s.
        let back = back_at_ms(&frames);
        assert!((18_000..=21_000).contains(&back), "{back}");
        assert_eq!(late_ms(&frames[1400]), 0);
        let hurried = intervals(&frames[260..]);
        assert!(
            hurried.iter().all(|ms| (36..=40).contains(ms)),
            "{hurried:?}"
        );
        assert_eq!(voice.stage.warnings(), 0);
        all.push(frames.len());
    }
    assert_eq!(all[0], 1500);
}

#[test]
fn clears_that_drop_nothing_do_not_make_it_permanent() {
    let mut voice = Voice::new(Stage::new(rules()));
    voice.speak(50);
    voice.stall(5);
    voice.burst();
    for _ in 0..245 {
        voice.speak(1);
        // One that was never begun, and one to come.
        voice.stage.clear(Some(0));
        voice.stage.clear(Some(2));
    }
    let frames = spoken(&voice.stage);
    assert_eq!(late_ms(frames.last().unwrap()), 0);
}

#[test]
fn a_clear_of_what_waits_behind_leaves_the_clock_alone() {
    let mut voice = Voice::new(Stage::new(rules()));
    voice.speak(50);
    voice.stall(5);
    voice.n_stuck += 245;
    voice.burst();
    for id in 2..200 {
        voice.stage.speak(id, &[1; 5]);
        voice.stage.clear(Some(id));
        voice.pause(200);
    }
    voice.pause(20_000);
    let frames = spoken(&voice.stage);
    assert_eq!(late_ms(frames.last().unwrap()), 0);
}

#[test]
fn stalls_that_repeat_are_made_up_for() {
    let mut voice = Voice::new(Stage::new(rules()));
    for _ in 0..10 {
        voice.speak(50);
        voice.stall(3);
        voice.burst();
    }
    voice.speak(150);
    let frames = spoken(&voice.stage);
    assert!(late_ms(frames.last().unwrap()) <= 40);
    // Once it is known that they repeat, the clock stays behind and they are not seen any more.
    let holds = |frames: &[Seen]| intervals(frames).iter().filter(|&&ms| ms > 60).count();
    assert!(holds(&frames) < 10, "{}", holds(&frames));
}

#[test]
fn with_idle_frames_a_stall_is_made_up_for_as_well() {
    let mut voice = Voice::new(Stage::new(idling()));
    voice.speak(50);
    voice.stall(5);
    voice.burst();
    voice.speak(245);
    let frames = voice.stage.frames();
    assert_contiguous(&frames);
    assert!(
        intervals(&frames)
            .iter()
            .all(|&ms| (36..=260).contains(&ms)),
        "{:?}",
        intervals(&frames)
    );
    let spoken: Vec<&Seen> = frames.iter().filter(|f| f.n.is_some()).collect();
    let n_idle = frames
        .iter()
        .skip_while(|f| f.n.is_none())
        .filter(|f| f.n.is_none())
        .count();
    assert!((15..=25).contains(&n_idle), "the face rested: {n_idle}");
    let start = spoken[0].at_ms;
    let late: Vec<u64> = spoken
        .iter()
        .map(|f| {
            f.at_ms
                .checked_sub(start + 40 * f.n.unwrap())
                .expect("no frame is early")
        })
        .collect();
    assert!((900..=1100).contains(late.iter().max().unwrap()));
    let last_late = late.iter().rposition(|&ms| ms > 40).unwrap();
    assert!((18_000..=22_000).contains(&spoken[last_late].at_ms));
    assert_eq!(late.last(), Some(&0));
}

#[test]
fn a_speaker_who_pauses_is_not_hurried() {
    for rules in [rules(), idling()] {
        let mut voice = Voice::new(Stage::new(rules));
        for _ in 0..20 {
            voice.speak(10);
            voice.pause(1000);
        }
        voice.speak(10);
        let frames = voice.stage.frames();
        assert_contiguous(&frames);
        // What a hold took more than the first frame is given back; no stall comes of it.
        let gaps = intervals(&frames);
        let holds = gaps.iter().filter(|&&ms| ms > 60).count();
        assert!(holds <= 20, "{holds}");
        assert!(gaps.iter().all(|&ms| ms >= 36), "{gaps:?}");
        let hurried = gaps.iter().filter(|&&ms| ms < 39).count();
        assert!(hurried < gaps.len() / 10, "{hurried} of {}", gaps.len());
    }
}

#[test]
fn a_new_segment_owes_nothing() {
    for rules in [rules(), idling()] {
        let mut stage = Stage::new(rules);
        stage.speak(1, &[1; 50]);
        stage.play(3000);
        stage.speak(1, &[1; 5]);
        stage.end(1);
        stage.play(3000);
        stage.speak(2, &[1; 500]);
        stage.end(2);
        stage.play(30_000);
        let frames = stage.frames();
        assert_contiguous(&frames);
        let second: Vec<Seen> = frames.into_iter().filter(|f| f.segment == 2).collect();
        assert_eq!(second.len(), 500);
        assert!(intervals(&second).iter().all(|&ms| ms == 40));
    }
}

#[test]
fn a_day_with_a_stall_an_hour_does_not_drift() {
    let mut voice = Voice::new(Stage::new(rules()));
    let n_hours = 24;
    for _ in 0..n_hours {
        for _ in 0..360 {
            voice.speak(49);
            voice.stage.play(0);
            // What was sent is not needed.
            let n_kept = voice.stage.sent.len().min(1);
            let n_sent = voice.stage.sent.len();
            voice.stage.sent.drain(..n_sent - n_kept);
            voice.speak(1);
        }
        voice.stall(5);
        voice.burst();
        voice.speak(100);
    }
    let frames = voice.stage.frames();
    let last = frames.last().unwrap();
    assert!(last.n.unwrap() > n_hours * 3600 * 25);
    assert_eq!(late_ms(last), 0, "to the millisecond");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_frame_is_early_nor_hurried_by_more_than_a_tenth(
        spells in prop::collection::vec((1..40usize, 0..12usize), 1..12),
        shows_idle in any::<bool>(),
        slowness in 1..25u64,
    ) {
        let mut voice = Voice::new(Stage::new(if shows_idle { idling() } else { rules() }));
        voice.stage.cost.1 = super::stage::ms(slowness);
        for (n_spoken, n_stuck) in spells {
            voice.speak(n_spoken);
            voice.stall(n_stuck);
            voice.burst();
        }
        voice.speak(200);
        let frames = voice.stage.frames();
        assert_contiguous(&frames);
        let spoken: Vec<Seen> = frames.iter().filter(|f| f.n.is_some()).copied().collect();
        let start = spoken[0].at_ms;
        for (n, frame) in (0..).zip(&spoken) {
            prop_assert_eq!(frame.n, Some(n), "no audio is skipped");
            prop_assert!(frame.at_ms >= start + 40 * n, "frame {} is early", n);
        }
    }
}
