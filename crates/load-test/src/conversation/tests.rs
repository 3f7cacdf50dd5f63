use lipsync::v1::{OutputFormat, SegmentEnd};
use tokio::time::Instant;

use super::*;
use crate::{report::Summary, stats::Clock};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn terms(pacing: Pacing, is_continuous: bool) -> Terms {
    let clock = Clock {
        start: Instant::now(),
        warm_up: Duration::ZERO,
        end: ms(100_000),
    };
    Terms {
        stats: SharedStats::new(clock),
        expected: Expected {
            format: OutputFormat::Jpeg,
            size: None,
        },
        fps: 25,
        model_fps: 25,
        pacing,
        player_buffer: ms(80),
        is_continuous,
    }
}

/// Speech from 1 s on in chunks of a frame; frames need 360 ms of audio.
fn speech(n_frames: u64) -> Segment {
    Segment {
        start: ms(1_000),
        n_frames,
        chunk_frames: 1,
        fps: 25,
        look_ahead: ms(360),
        delivery: Delivery::Live,
    }
}

fn frame(segment_id: u64, n: u64, index: u64) -> Event {
    Event::Frame(CompositedFrame {
        frame_index: index,
        pts_us: index * 40_000,
        audio_time_us: (segment_id > 0).then_some(n * 40_000),
        segment_id,
        format: OutputFormat::Jpeg.into(),
        width: 4,
        height: 2,
        generated: segment_id > 0,
        data: vec![0xff, 0xd8, 0xff, 0xd9].into(),
        ..CompositedFrame::default()
    })
}

fn said(conversation: &mut Conversation, n_chunks: u64) {
    for _ in 0..n_chunks {
        conversation.chunk_sent(1_280);
    }
}

fn summary(terms: &Terms) -> Summary {
    Summary::new(1, &terms.stats.lock(), ms(100_000))
}

#[test]
fn a_steady_session_misses_nothing_and_does_not_drift() {
    let terms = terms(Pacing::Realtime, false);
    let mut conversation = Conversation::new(terms.clone());
    conversation.begin(speech(100));
    said(&mut conversation, 100);
    for n in 0..100 {
        conversation.receive(&frame(1, n, n), ms(1_400 + 40 * n));
    }
    let end = SegmentEnd {
        segment_id: 1,
        n_frames: 100,
    };
    conversation.receive(&Event::SegmentEnd(end), ms(5_400));
    assert!(conversation.is_answered());
    conversation.close(ms(5_400), Outcome::Unfinished);
    let summary = summary(&terms);
    assert_eq!((summary.ok, summary.frames_missed), (100, 0));
    let live = summary.live.expect("a live session");
    // Its audio was there at 1,360 ms.
    let first = live.first_frame_ms.expect("a first frame");
    assert!((first.max - 40.0).abs() < 0.1, "{first:?}");
    let interval = live.interval_ms.expect("99 intervals");
    assert!((interval.p50 - 40.0).abs() < 0.1 && interval.max < 40.1);
    assert_eq!((live.drift_sessions, live.drift_ms), (1, Some(0.0)));
}

#[test]
fn a_frame_that_stalls_the_player_is_missed() {
    let terms = terms(Pacing::Realtime, false);
    let mut conversation = Conversation::new(terms.clone());
    conversation.begin(speech(3));
    conversation.receive(&frame(1, 0, 0), ms(1_400));
    // The player begins at 1,480 and shows these at 1,520 and 1,560.
    conversation.receive(&frame(1, 1, 1), ms(1_520));
    conversation.receive(&frame(1, 2, 2), ms(1_561));
    assert_eq!(summary(&terms).frames_missed, 1);
}

#[test]
fn an_interruption_forgives_what_was_not_due() {
    let terms = terms(Pacing::Realtime, false);
    let mut conversation = Conversation::new(terms.clone());
    conversation.begin(speech(100));
    said(&mut conversation, 100);
    conversation.receive(&frame(1, 0, 0), ms(1_400));
    // Due were frames 1 and 2, at 1,520 and 1,560.
    conversation.clear(ms(1_570));
    conversation.begin(speech(5));
    // Frames 1 to 3 were sent before the server knew, and dropped on the way.
    let cleared = Cleared {
        last_pts_us: Some(3 * 40_000),
        ..Cleared::default()
    };
    conversation.receive(&Event::Cleared(cleared), ms(1_582));
    conversation.receive(&frame(2, 0, 4), ms(2_000));
    let summary = summary(&terms);
    assert_eq!((summary.ok, summary.frames_missed), (2, 2));
    assert_eq!(summary.outcomes["unfinished"], 2);
    let live = summary.live.expect("a live session");
    assert_eq!(live.clears, 1);
    assert!((live.clear_ms.expect("one").max - 12.0).abs() < 0.1);
    // From one utterance to the next is no interval.
    assert_eq!(live.interval_ms, None);
}

#[test]
fn idle_frames_are_neighbours_too() {
    let terms = terms(Pacing::Realtime, true);
    let mut conversation = Conversation::new(terms.clone());
    conversation.receive(&frame(0, 0, 0), ms(0));
    conversation.begin(speech(1));
    conversation.receive(&frame(1, 0, 1), ms(40));
    conversation.receive(&frame(0, 0, 2), ms(80));
    // One is lost.
    conversation.receive(&frame(0, 0, 4), ms(160));
    let summary = summary(&terms);
    assert_eq!((summary.ok, summary.outcomes["invalid order"]), (1, 1));
    let live = summary.live.expect("a live session");
    assert_eq!((live.idle_frames, live.skipped_frames), (3, 0));
    assert!((live.interval_ms.expect("three").max - 80.0).abs() < 0.1);
}

#[test]
fn frames_cut_off_by_the_end_of_the_run_are_ready_then() {
    let mut conversation = Conversation::new(terms(Pacing::Asap, false));
    conversation.begin(speech(100));
    said(&mut conversation, 16);
    conversation.cut(ms(1_650));
    let speech = &conversation.speeches[0];
    assert_eq!(speech.times.n_frames, 16);
    assert_eq!(speech.ready_at(6), ms(1_600));
    assert_eq!(speech.ready_at(7), ms(1_650));
}
