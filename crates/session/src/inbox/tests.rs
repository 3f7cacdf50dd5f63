use super::*;

type Inbox = super::Inbox<SessionFault>;

/// What comes out, without the times: a segment and its bytes, or its end.
fn all(inbox: &mut Inbox) -> Vec<(u64, Option<usize>)> {
    let works = std::iter::from_fn(|| inbox.pop());
    works
        .map(|work| match work {
            Work::Audio {
                segment_id, data, ..
            } => (segment_id, Some(data.len())),
            Work::End { segment_id, .. } => (segment_id, None),
        })
        .collect()
}

fn push(inbox: &mut Inbox, id: u64, n: usize) -> Result<Pushed, SessionFault> {
    inbox.push_audio(id, &vec![0; n], Instant::now())
}

#[test]
fn a_new_id_ends_the_segment_before() {
    let mut inbox = Inbox::new(100, 1);
    push(&mut inbox, 1, 4).unwrap();
    push(&mut inbox, 3, 2).unwrap();
    inbox.finish(Instant::now());
    let expected = [(1, Some(4)), (1, None), (3, Some(2)), (3, None)];
    assert_eq!(all(&mut inbox), expected);
    assert!(inbox.is_exhausted());
}

#[test]
fn ids_never_go_back() {
    let mut inbox = Inbox::new(100, 1);
    push(&mut inbox, 5, 1).unwrap();
    assert!(matches!(
        push(&mut inbox, 4, 1),
        Err(SessionFault::Invalid { .. })
    ));
    assert!(matches!(
        push(&mut inbox, 0, 1),
        Err(SessionFault::Invalid { .. })
    ));
    inbox.end_segment(5, Instant::now()).unwrap();
    assert!(matches!(
        push(&mut inbox, 5, 1),
        Err(SessionFault::Invalid { .. })
    ));
}

#[test]
fn a_segment_without_audio_is_no_fault() {
    let mut inbox = Inbox::new(100, 1);
    push(&mut inbox, 1, 4).unwrap();
    // Never begun; what was open ends with it.
    inbox.end_segment(2, Instant::now()).unwrap();
    inbox.end_segment(2, Instant::now()).unwrap();
    // Begun without audio.
    push(&mut inbox, 3, 0).unwrap();
    inbox.end_segment(3, Instant::now()).unwrap();
    // Of what is past, and of what was cleared before it began, nothing is told.
    inbox.end_segment(0, Instant::now()).unwrap();
    inbox.end_segment(1, Instant::now()).unwrap();
    inbox.clear(Some(5)).unwrap();
    inbox.end_segment(5, Instant::now()).unwrap();
    let expected = [
        (1, Some(4)),
        (1, None),
        (2, Some(0)),
        (2, None),
        (3, Some(0)),
        (3, None),
    ];
    assert_eq!(all(&mut inbox), expected);
    assert!(matches!(
        push(&mut inbox, 2, 1),
        Err(SessionFault::Invalid { .. })
    ));
}

#[test]
fn ends_without_audio_are_bounded_and_nothing_begins_after_the_last() {
    let mut inbox = Inbox::new(100, 1);
    let ended = (1..10_000).find_map(|id| inbox.end_segment(id, Instant::now()).err());
    assert!(matches!(ended, Some(SessionFault::TooManyMessages { .. })));
    let mut finished = Inbox::new(100, 1);
    finished.finish(Instant::now());
    finished.end_segment(1, Instant::now()).unwrap();
    assert!(all(&mut finished).is_empty());
}

#[test]
fn cleared_audio_is_discarded_and_its_bytes_are_given_back() {
    let mut inbox = Inbox::new(10, 1);
    push(&mut inbox, 1, 10).unwrap();
    assert!(matches!(
        push(&mut inbox, 1, 1),
        Err(SessionFault::TooMuchAudio { .. })
    ));
    inbox.clear(Some(1)).unwrap();
    assert_eq!(push(&mut inbox, 1, 4).unwrap(), Pushed::Cleared);
    assert_eq!(push(&mut inbox, 2, 10).unwrap(), Pushed::Queued);
    inbox.clear(None).unwrap();
    assert_eq!(push(&mut inbox, 2, 4).unwrap(), Pushed::Cleared);
    assert_eq!(inbox.pop(), None);
    assert_eq!(push(&mut inbox, 3, 10).unwrap(), Pushed::Queued);
}

#[test]
fn a_future_segment_can_be_cleared_before_its_audio_comes() {
    let mut inbox = Inbox::new(10, 1);
    inbox.clear(Some(7)).unwrap();
    assert_eq!(push(&mut inbox, 7, 1).unwrap(), Pushed::Cleared);
    inbox.end_segment(7, Instant::now()).unwrap();
    assert_eq!(push(&mut inbox, 6, 1).unwrap(), Pushed::Queued);
}

#[test]
fn a_segment_cleared_before_it_began_stays_so_when_everything_is_cleared() {
    let mut inbox = Inbox::new(10, 1);
    push(&mut inbox, 1, 1).unwrap();
    inbox.clear(Some(7)).unwrap();
    inbox.clear(None).unwrap();
    assert_eq!(push(&mut inbox, 7, 1).unwrap(), Pushed::Cleared);
    assert_eq!(push(&mut inbox, 8, 1).unwrap(), Pushed::Queued);
}

#[test]
fn interruptions_one_by_one_never_end() {
    let mut inbox = Inbox::new(10, 1);
    for id in 1..5000 {
        push(&mut inbox, id, 1).unwrap();
        inbox.clear(Some(id)).unwrap();
        assert_eq!(push(&mut inbox, id, 1).unwrap(), Pushed::Cleared);
    }
    assert_eq!(inbox.cleared.len(), MAX_SINGLE_CLEARS);
}

#[test]
fn segments_cleared_before_they_begin_are_never_forgotten() {
    let mut inbox = Inbox::new(10, 1);
    let to_come = 1_000_000;
    for n in 0..MAX_SINGLE_CLEARS as u64 {
        assert!(!inbox.clear(Some(to_come + n)).unwrap());
    }
    let refused = inbox.clear(Some(to_come - 1));
    assert!(matches!(refused, Err(SessionFault::TooManyMessages { .. })));
    push(&mut inbox, 5, 1).unwrap();
    assert!(inbox.clear(Some(5)).unwrap());
    assert!(
        inbox.is_cleared(5),
        "nor is the one that begins before them"
    );
    for id in 6..5000 {
        push(&mut inbox, id, 1).unwrap();
        inbox.clear(Some(id)).unwrap();
        assert!(inbox.is_cleared(id));
    }
    assert_eq!(push(&mut inbox, to_come, 1).unwrap(), Pushed::Cleared);
    // Once they are old, they make room like others.
    for n in 1..10 {
        let newest = n * 10 * to_come;
        push(&mut inbox, newest, 1).unwrap();
        for n in 1..=MAX_SINGLE_CLEARS as u64 {
            inbox.clear(Some(newest + n)).unwrap();
        }
        assert!(inbox.cleared.len() <= 2 * MAX_SINGLE_CLEARS);
    }
}

#[test]
fn a_clear_is_not_forgotten_while_its_audio_is_worked_on() {
    let mut inbox = Inbox::new(10, 1);
    push(&mut inbox, 1, 1).unwrap();
    assert!(inbox.pop().is_some());
    for id in 1..5000 {
        push(&mut inbox, id, 1).unwrap();
        inbox.clear(Some(id)).unwrap();
    }
    assert!(inbox.is_cleared(1));
}

#[test]
fn small_chunks_share_blocks_and_large_ones_are_cut() {
    let mut inbox = Inbox::new(10, 3);
    for n in [1, 1, 1, 25] {
        push(&mut inbox, 1, n).unwrap();
    }
    for _ in 0..1000 {
        push(&mut inbox, 1, 0).unwrap();
    }
    assert!(push(&mut inbox, 1, 3).is_err());
    inbox.finish(Instant::now());
    let expected = [(1, Some(10)), (1, Some(10)), (1, Some(8)), (1, None)];
    assert_eq!(all(&mut inbox), expected);
    assert_eq!(inbox.n_bytes, 0);
}

#[test]
fn segments_without_audio_are_bounded_too() {
    let mut inbox = Inbox::new(10, 1);
    let refused = (1..10_000).find_map(|id| push(&mut inbox, id, 0).err());
    assert!(matches!(
        refused,
        Some(SessionFault::TooManyMessages { .. })
    ));
    assert!(inbox.queue.len() < 3 * MAX_QUEUED_SEGMENTS);
}

#[test]
fn after_the_end_nothing_is_taken() {
    let mut inbox = Inbox::new(10, 1);
    push(&mut inbox, 1, 3).unwrap();
    inbox.finish(Instant::now());
    assert_eq!(push(&mut inbox, 1, 1).unwrap(), Pushed::TooLate);
    assert_eq!(push(&mut inbox, 2, 1).unwrap(), Pushed::TooLate);
    assert_eq!(all(&mut inbox), [(1, Some(3)), (1, None)]);
    assert!(inbox.is_exhausted());
}

#[test]
fn a_block_knows_when_its_first_and_its_last_piece_came() {
    let mut inbox = Inbox::new(10, 1);
    let start = Instant::now();
    let at = |ms| start + std::time::Duration::from_millis(ms);
    inbox.push_audio(1, &[0; 4], at(0)).unwrap();
    inbox.push_audio(1, &[0; 4], at(7)).unwrap();
    let Some(Work::Audio { came, .. }) = inbox.pop() else {
        panic!("audio")
    };
    assert_eq!((came.began, came.whole), (at(0), at(7)));
}

#[test]
fn a_crumb_of_audio_waits_for_more_but_not_for_long() {
    let began = Instant::now();
    let mut inbox = Inbox::new(32_000, 60);
    assert_eq!(inbox.ready_at(), None);
    inbox.push_audio(1, &[0; 2], began).unwrap();
    inbox
        .push_audio(1, &[0; 2], began + Duration::from_millis(4))
        .unwrap();
    assert_eq!(inbox.ready_at(), Some(began + CRUMB_PATIENCE));
    // 5 ms are no crumb.
    inbox
        .push_audio(1, &[0; 156], began + Duration::from_millis(4))
        .unwrap();
    assert_eq!(inbox.ready_at(), Some(began));
    assert!(inbox.pop().is_some());
    // Nothing more comes of a segment that has ended.
    inbox.push_audio(1, &[0; 2], began).unwrap();
    inbox.end_segment(1, began).unwrap();
    assert_eq!(inbox.ready_at(), Some(began));
}
