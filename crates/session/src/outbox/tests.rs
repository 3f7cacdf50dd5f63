use super::*;

/// Why these sessions end.
#[derive(Debug)]
enum Ended {
    Draining,
    DeadlineExceeded,
    Fault(SessionFault),
}

impl From<SessionFault> for Ended {
    fn from(fault: SessionFault) -> Self {
        Self::Fault(fault)
    }
}

type Outbox = super::Outbox<(), Ended>;

fn slot(segment_id: u64, n: u64) -> Slot {
    Slot::new(segment_id, n, [].into(), true, bytes::Bytes::new())
}

fn push(outbox: &mut Outbox, segment_id: u64, n: u64) {
    let Cursor { place, look } = outbox.cursor();
    let frame = Frame {
        place,
        pts_us: 0,
        segment_id,
        audio_time_us: None,
        audio: bytes::Bytes::new(),
        position: Position::start(place, false),
        picture: (),
    };
    outbox.push_frame(Made {
        frame,
        kind: Kind::Spoken,
        look,
        slot: Some(slot(segment_id, n)),
    });
}

/// Segment, place and time of what is left.
fn sent(outbox: &mut Outbox) -> Vec<(u64, u64, u64)> {
    let mut all = Vec::new();
    loop {
        match outbox.pop() {
            Popped::Frame(f, ..) => all.push((f.segment_id, f.place, f.pts_us)),
            Popped::Notice(_) => {}
            Popped::Empty | Popped::End(_) => return all,
        }
    }
}

fn cleared(outbox: &mut Outbox) -> Cleared {
    match outbox.pop() {
        Popped::Notice(Notice::Cleared(cleared)) => cleared,
        other => panic!("{other:?}"),
    }
}

#[test]
fn dropped_frames_leave_no_hole_in_time_or_walk() {
    let mut outbox = Outbox::new(Fps::at_least_1(25), &Position::start(100, false));
    for n in 0..5 {
        push(&mut outbox, 1, n);
    }
    assert!(matches!(outbox.pop(), Popped::Frame(..)));
    assert!(matches!(outbox.pop(), Popped::Frame(..)));
    assert!(outbox.clear(Some(1), |id| id == 1).unwrap().is_empty());
    assert_eq!(cleared(&mut outbox).last_pts_us, Some(40_000));
    assert_eq!(outbox.cursor().place, 102);
    push(&mut outbox, 2, 0);
    assert_eq!(sent(&mut outbox), [(2, 102, 80_000)]);
}

#[test]
fn what_lay_behind_a_cleared_segment_comes_back_to_be_made_again() {
    let mut outbox = Outbox::new(Fps::at_least_1(25), &Position::start(7, false));
    push(&mut outbox, 1, 0);
    push(&mut outbox, 2, 0);
    push(&mut outbox, 2, 1);
    let end = SegmentEnd {
        segment_id: 2,
        n_frames: 2,
    };
    outbox.push_end(end);
    push(&mut outbox, 3, 0);
    let back = outbox.clear(Some(2), |id| id == 2).unwrap();
    assert!(matches!(&back[..], [Planned::Frame(s)] if s.is(&slot(3, 0))));
    assert_eq!(outbox.cursor().place, 8);
    push(&mut outbox, 4, 0);
    let back = outbox.clear(Some(1), |id| id == 1).unwrap();
    assert!(matches!(&back[..], [Planned::Frame(s)] if s.is(&slot(4, 0))));
    assert_eq!(cleared(&mut outbox).last_pts_us, None);
    assert_eq!((outbox.cursor().place, outbox.n_queued_frames), (7, 0));
}

#[test]
fn an_answer_does_not_wait_for_frames() {
    let mut outbox = Outbox::new(Fps::at_least_1(25), &Position::start(0, false));
    push(&mut outbox, 1, 0);
    outbox.clear(Some(9), |id| id == 9).unwrap();
    assert!(!outbox.next_is_frame());
    assert_eq!(cleared(&mut outbox).segment_id, Some(9));
    assert!(outbox.next_is_frame());
}

#[test]
fn a_failure_ends_the_stream_at_once_and_whatever_came_before() {
    let mut outbox = Outbox::new(Fps::at_least_1(25), &Position::start(0, false));
    push(&mut outbox, 1, 0);
    outbox.finish(None);
    outbox.finish(Some(Ended::Draining));
    outbox.finish(Some(Ended::DeadlineExceeded));
    assert!(matches!(outbox.pop(), Popped::End(Some(Ended::Draining))));
}

#[test]
fn a_good_end_comes_after_what_is_queued() {
    let mut outbox = Outbox::new(Fps::at_least_1(25), &Position::start(0, false));
    push(&mut outbox, 1, 0);
    outbox.set_farewell(Ended::Draining);
    outbox.finish(None);
    assert!(matches!(outbox.pop(), Popped::Frame(..)));
    assert!(matches!(outbox.pop(), Popped::End(Some(Ended::Draining))));
}

#[test]
fn notices_to_a_client_that_does_not_read_are_bounded() {
    let mut outbox = Outbox::new(Fps::at_least_1(25), &Position::start(0, false));
    for _ in 0..10_000 {
        outbox.warn(Warning::default());
    }
    assert_eq!(outbox.notices.len(), MAX_QUEUED_WARNINGS);
    assert!(!outbox.has_room(1, 1));
    let refused = (0..10_000).find_map(|_| outbox.clear(None, |_| true).err());
    assert!(matches!(
        refused,
        Some(SessionFault::TooManyMessages { .. })
    ));
    assert!(outbox.notices.len() <= MAX_QUEUED_NOTICES + 1);
    outbox.finish(refused.map(Ended::from));
    assert!(outbox.notices.is_empty(), "memory is given back at once");
    assert!(matches!(
        outbox.pop(),
        Popped::End(Some(Ended::Fault(SessionFault::TooManyMessages { .. })))
    ));
}
