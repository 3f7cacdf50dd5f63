//! Phases, places and bytes at the gate.

use super::*;

#[test]
fn work_is_taken_between_start_and_drain() {
    let limits = Limits {
        queue_capacity: 1,
        n_workers: 1,
        ..Limits::ROOMY
    };
    let (phase, seen) = watch::channel(Phase::Starting);
    let gate = Admission::new(limits, seen);
    let anybody = Caller::default();
    let admit = || gate.admit(&anybody, Work::Batch);
    assert!(matches!(admit(), Err(ServeError::Starting)));
    phase.send_replace(Phase::Serving);
    let inside: Vec<_> = (0..5).map(|_| admit().unwrap()).collect();
    for refused in [admit().map(drop), gate.expect(&anybody, Work::Batch)] {
        assert!(matches!(refused, Err(ServeError::Overloaded { .. })));
    }
    assert_eq!(gate.n_rejected(), 2);
    phase.send_replace(Phase::Draining);
    assert!(matches!(admit(), Err(ServeError::Draining)));
    drop(inside);
    let session = gate.admit(&anybody, Work::Session);
    assert!(matches!(session, Err(ServeError::Draining)));
    assert_eq!(gate.n_rejected(), 2, "a drain is no want of room");
}

#[test]
fn answers_take_what_they_have_become_and_give_all_of_it_back() {
    let limits = Limits::ROOMY;
    let (_phase, seen) = watch::channel(Phase::Serving);
    let gate = Admission::new(limits, seen);
    let anybody = Caller::default();
    let reserve = |n_bytes| gate.reserve(&anybody, n_bytes);
    let all = limits.max_unsent_bytes;
    let one = reserve(1000).unwrap();
    gate.resize(&anybody, &one, 10).unwrap();
    let other = reserve(all as u64 - 100).unwrap();
    gate.resize(&anybody, &one, 100).unwrap();
    for refused in [
        gate.resize(&anybody, &other, all - 99),
        gate.resize(&anybody, &one, 101),
    ] {
        assert!(matches!(refused, Err(ServeError::Overloaded { .. })));
    }
    assert!(reserve(1).is_err());
    assert_eq!(gate.n_rejected(), 3);
    drop(other);
    gate.resize(&anybody, &one, all).unwrap();
    drop(one);
    assert!(reserve(all as u64).is_ok());
}

#[tokio::test]
async fn nobody_waits_through_a_drain() {
    let limits = Limits::ROOMY;
    let (phase, seen) = watch::channel(Phase::Serving);
    let gate = Admission::new(limits, seen);
    assert_eq!(gate.unless_draining(async { 1 }).await.unwrap(), 1);
    phase.send_replace(Phase::Draining);
    let waited = gate.unless_draining(std::future::pending::<()>()).await;
    assert!(matches!(waited, Err(ServeError::Draining)));
    assert_eq!(gate.unless_draining(async { 2 }).await.unwrap(), 2);
}
