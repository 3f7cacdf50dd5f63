use std::net::{IpAddr, Ipv4Addr};

use super::*;

fn peer(n: u8) -> Peer {
    Peer::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)))
}

fn gate(limit: usize, share_percent: u32, patience: Option<Duration>) -> Arc<Gate> {
    Gate::new(Rules {
        what: "too many",
        limit,
        share_percent,
        tenant_share_percent: 80,
        patience,
    })
}

fn take_all(gate: &Arc<Gate>, party: impl Into<Party>) -> Vec<Ticket> {
    let party = party.into();
    std::iter::from_fn(|| gate.take(party.clone(), 1).ok()).collect()
}

fn party(n: u8, tenant: &str, quota: Option<usize>) -> Party {
    Party {
        peer: peer(n),
        tenant: Some(TenantId::new(tenant)),
        quota,
    }
}

fn has_room(gate: &Gate, peer: Peer) -> bool {
    gate.lack_of_one(&peer.into()).is_none()
}

#[test]
fn one_peer_leaves_room_for_others_whatever_it_takes() {
    let gate = gate(100, 80, None);
    let first = take_all(&gate, peer(1));
    assert_eq!(first.len(), 80);
    let second = take_all(&gate, peer(2));
    assert_eq!(second.len(), 16);
    assert!(has_room(&gate, peer(3)) && !has_room(&gate, peer(1)));
    drop(first);
    assert_eq!(gate.n_taken(), 16);
    assert_eq!(take_all(&gate, peer(3)).len(), 68);
}

#[test]
fn few_places_are_not_divided_and_one_large_thing_is_let_in() {
    for limit in 1..5 {
        assert_eq!(take_all(&gate(limit, 80, None), peer(1)).len(), limit);
    }
    let bytes = gate(1000, 80, None);
    let one = bytes.take(peer(1), 10).unwrap();
    assert!(one.resize(1000).is_ok() && one.resize(1001).is_err());
    assert!(bytes.take(peer(2), 1).is_err());
    assert!(one.resize(0).is_ok() && bytes.take(peer(2), 1000).is_ok());
    assert_eq!(take_all(&gate(100, 100, None), peer(1)).len(), 100);
}

#[test]
fn growth_is_bounded_by_the_share_too() {
    let bytes = gate(1000, 80, None);
    let (one, other) = (bytes.take(peer(1), 400), bytes.take(peer(1), 100));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(other.resize(400).is_ok() && other.resize(402).is_err());
    drop(one);
    assert!(other.resize(1000).is_ok());
    drop(other);
    assert_eq!(bytes.n_taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_gives_way() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let gate = gate(3, 100, Some(PATIENCE));
    let busy = gate.take(peer(1), 1).unwrap();
    let old = gate.take(peer(1), 1).unwrap();
    let young = gate.take(peer(2), 1).unwrap();
    old.set_waiting(Some(Instant::now()));
    tokio::time::advance(PATIENCE / 2).await;
    young.set_waiting(Some(Instant::now()));
    assert!(gate.take(peer(3), 1).is_err(), "nobody has waited enough");
    tokio::time::advance(PATIENCE / 2).await;
    let newcomer = gate.take(peer(3), 1).unwrap();
    old.withdrawn().await;
    assert!(!young.is_withdrawn() && !busy.is_withdrawn());
    assert!(
        old.resize(0).is_err() && old.resize(2).is_err(),
        "it is nobody's any more"
    );
    drop(old);
    assert_eq!(gate.n_taken(), 3, "given back once");
    tokio::time::advance(PATIENCE).await;
    assert!(gate.take(peer(3), 2).is_err(), "all or nothing");
    assert!(!young.is_withdrawn());
    assert!(newcomer.resize(2).is_ok(), "growth makes room, too");
    young.withdrawn().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_its_share_displaces_its_own() {
    let gate = gate(10, 50, Some(Duration::ZERO));
    let theirs = gate.take(peer(2), 1).unwrap();
    theirs.set_waiting(Some(Instant::now()));
    tokio::time::advance(Duration::from_secs(1)).await;
    let own = take_all(&gate, peer(1));
    assert_eq!(own.len(), 5);
    own[0].set_waiting(Some(Instant::now()));
    assert!(has_room(&gate, peer(1)));
    let another = gate.take(peer(1), 1);
    assert!(another.is_ok() && own[0].is_withdrawn() && !theirs.is_withdrawn());
}

#[tokio::test]
async fn it_is_empty_when_the_last_ticket_is_gone() {
    let gate = gate(2, 100, None);
    let tickets = take_all(&gate, peer(1));
    let emptied = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.emptied().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(gate.n_taken(), 2, "who waits for the end takes no place");
    drop(tickets);
    emptied.await.unwrap();
    gate.emptied().await;
}

#[test]
fn one_tenant_leaves_room_for_others_from_however_many_addresses_it_comes() {
    let gate = gate(100, 100, None);
    let first: Vec<_> = (0..100)
        .filter_map(|n| gate.take(party(n, "a", None), 1).ok())
        .collect();
    assert_eq!(first.len(), 80);
    let lack = gate.lack_of_one(&party(200, "a", None));
    assert_eq!(lack, Some(Lack::Tenant));
    assert_eq!(take_all(&gate, party(1, "b", None)).len(), 16);
    drop(first);
    assert_eq!(gate.n_taken(), 0);
}

#[test]
fn a_quota_holds_however_much_room_there_is() {
    let gate = gate(100, 100, None);
    let held = take_all(&gate, party(1, "a", Some(3)));
    assert_eq!(held.len(), 3);
    assert_eq!(
        gate.take(party(2, "a", Some(3)), 1).err(),
        Some(Lack::Quota)
    );
    assert!(gate.take(party(1, "b", Some(3)), 1).is_ok());
    assert_eq!(held[0].resize(2), Err(Lack::Quota));
    held[0].resize(0).unwrap();
    held[1].resize(2).unwrap();
    // Where a smaller quota comes to hold, nobody loses what it has.
    assert_eq!(
        gate.take(party(1, "a", Some(1)), 1).err(),
        Some(Lack::Quota)
    );
    assert_eq!(gate.n_taken(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_at_its_quota_displaces_its_own() {
    let gate = gate(10, 100, Some(Duration::ZERO));
    let theirs = gate.take(party(1, "b", None), 1).unwrap();
    let own = gate.take(party(1, "a", Some(1)), 1).unwrap();
    for ticket in [&theirs, &own] {
        ticket.set_waiting(Some(Instant::now()));
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let newer = gate.take(party(2, "a", Some(1)), 1);
    assert!(newer.is_ok() && own.is_withdrawn() && !theirs.is_withdrawn());
}

/// The order of those that wait is kept up whatever becomes of them.
#[tokio::test(start_paused = true)]
async fn whoever_waits_for_longest_gives_way_first() {
    let gate = gate(4, 100, Some(Duration::from_secs(1)));
    let tickets = take_all(&gate, peer(1));
    for (n, ticket) in tickets.iter().enumerate() {
        ticket.set_waiting(Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(1 + n as u64)).await;
    }
    tickets[0].set_waiting(Some(Instant::now()));
    tickets[1].set_waiting(None);
    let newcomer = gate.take(peer(2), 1).unwrap();
    let withdrawn = |tickets: &[Ticket]| -> Vec<bool> {
        let all = tickets.iter();
        all.map(Ticket::is_withdrawn).collect()
    };
    assert_eq!(withdrawn(&tickets), [false, false, true, false]);
    tickets[3].give_up();
    assert_eq!(withdrawn(&tickets), [false, false, true, true]);
    let second = gate.take(peer(2), 1).unwrap();
    // One has begun to wait just now, the other does something.
    assert_eq!(gate.take(peer(2), 1).unwrap_err(), Lack::Room);
    tokio::time::advance(Duration::from_secs(1)).await;
    let third = gate.take(peer(2), 1).unwrap();
    assert_eq!(withdrawn(&tickets), [true, false, true, true]);
    drop((tickets, newcomer, second, third));
    let state = gate.lock();
    assert!(state.waiting.is_empty() && state.holders.is_empty());
}
