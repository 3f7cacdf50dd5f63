//! Weighted shares: whose turn it is among tenants that wait, by what each has had.
//!
//! Each tenant has a clock that runs while it is served: the time that it was given, divided by its weight. The
//! common clock is the mean of those that wait, by weight: that of a tenant that gets exactly its share. A tenant
//! may be served when its clock is not ahead of the common one; of those, the one goes first whose clock would be
//! furthest behind after its next piece. So a tenant that always waits is never ahead of its share by more than one
//! piece, and never behind it by more than the largest one, whatever the weights (this is WF2Q). A deficit round
//! robin decides by the same deficits, but pays them out a whole quantum at a time, so that its error grows with
//! the weights.
//!
//! A tenant that was idle while others waited claims no more of that time than a moment, so that a short job of
//! somebody who asks for little need not wait for its share. What a tenant was given too much stays on its account
//! until the common clock has caught up; then the account is forgotten.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use lipsync_core::{TenantId, Weight};

use super::policy::CLAIM;

/// A signed time of a worker, nanoseconds.
pub(super) type Nanos = i128;

/// A point on a tenant's clock or the common one: nanoseconds for a weight of 1, times [`SCALE`].
type Point = i128;

/// Keeps the remainders of divisions by weights far below a nanosecond.
const SCALE: i128 = 1 << 20;

/// Idle accounts that are kept before those that owe nothing are looked for.
const MAX_IDLE: usize = 64;
/// Idle accounts that are kept at all. Where addresses have accounts, whoever has many addresses could make more of
/// them than fit into memory; beyond this many, what idle ones owe is forgotten.
const MAX_OWING: usize = 1024;

/// Nanoseconds of a time that was measured or estimated.
pub(super) fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// The accounts of the tenants of one level.
#[derive(Debug)]
pub(super) struct Shares {
    /// What a tenant may claim of the time in which it was idle.
    burst: Nanos,
    /// The common clock. It goes back a little when somebody joins who was idle; then those who were not ahead
    /// before keep their place until they are served.
    now: Point,
    /// The clocks of all that wait, by weight.
    sum: Point,
    /// Weights of all that wait.
    total_weight: i128,
    n_waiting: usize,
    accounts: HashMap<TenantId, Account>,
    /// Accounts at which idle ones are looked through again.
    sweep_at: usize,
    /// Those that wait and may be served, by where their next piece ends on their clock.
    eligible: BTreeSet<(Point, TenantId)>,
    /// Those that wait and are ahead of their share, by their clock.
    ahead: BTreeSet<(Point, TenantId)>,
}

#[derive(Debug)]
struct Account {
    clock: Point,
    weight: i128,
    waits: bool,
    /// Where it waits.
    place: Option<Place>,
    /// Cost of its next piece.
    next: Nanos,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Eligible(Point),
    Ahead(Point),
}

impl Default for Shares {
    fn default() -> Self {
        Self::new(CLAIM)
    }
}

impl Shares {
    /// Nobody waits; an idle tenant may claim this much later.
    fn new(burst: Duration) -> Self {
        Self {
            burst: nanos(burst),
            now: 0,
            sum: 0,
            total_weight: 0,
            n_waiting: 0,
            accounts: HashMap::new(),
            sweep_at: 0,
            eligible: BTreeSet::new(),
            ahead: BTreeSet::new(),
        }
    }

    /// A tenant has work, the next piece of which is expected to cost `next`.
    pub(super) fn wait(&mut self, tenant: &TenantId, weight: Weight, next: Nanos) {
        let weight = i128::from(weight.get());
        // Where nobody waits, nobody is asked to stand back.
        let burst = if self.n_waiting > 0 { self.burst } else { 0 };
        let earliest = self.now - burst * SCALE / weight;
        let account = self.accounts.entry(tenant.clone()).or_insert(Account {
            clock: earliest,
            weight,
            waits: false,
            place: None,
            next,
        });
        if account.waits {
            self.total_weight -= account.weight;
            self.sum -= account.weight * account.clock;
        } else {
            account.clock = account.clock.max(earliest);
            account.waits = true;
            self.n_waiting += 1;
        }
        (account.weight, account.next) = (weight, next);
        self.total_weight += weight;
        self.sum += weight * account.clock;
        self.tick();
        self.settle(tenant);
        self.catch_up();
    }

    /// A tenant has no work any more.
    pub(super) fn rest(&mut self, tenant: &TenantId) {
        let Some(account) = self.accounts.get_mut(tenant) else {
            return;
        };
        let Some(place) = account.place.take() else {
            return;
        };
        account.waits = false;
        self.total_weight -= account.weight;
        self.sum -= account.weight * account.clock;
        self.n_waiting -= 1;
        self.leave(place, tenant);
        self.tick();
        self.catch_up();
        self.forget_idle();
    }

    /// A tenant was given this much; negative where it was charged too much before.
    pub(super) fn charge(&mut self, tenant: &TenantId, cost: Nanos) {
        self.put_forward(tenant, |weight| cost * SCALE / weight);
        self.tick();
        self.settle(tenant);
        self.catch_up();
    }

    /// Tenants could not use a turn that cost somebody else this much: they keep their places, as if they had not
    /// waited, and claim nothing for that time.
    pub(super) fn pass_over(&mut self, tenants: &[&TenantId], cost: Nanos) {
        let weights = tenants
            .iter()
            .filter_map(|&tenant| self.accounts.get(tenant));
        let passed: i128 = weights.map(|account| account.weight).sum();
        let step = cost * SCALE / (self.total_weight - passed).max(1);
        for tenant in tenants {
            self.put_forward(tenant, |_| step);
        }
        self.tick();
        for tenant in tenants {
            self.settle(tenant);
        }
        self.catch_up();
    }

    fn put_forward(&mut self, tenant: &TenantId, step: impl FnOnce(i128) -> Point) {
        if let Some(account) = self.accounts.get_mut(tenant) {
            let step = step(account.weight);
            account.clock += step;
            if account.waits {
                self.sum += account.weight * step;
            }
        }
    }

    /// Sets the common clock. It stands still while nobody waits.
    fn tick(&mut self) {
        if self.total_weight > 0 {
            self.now = self.sum.div_euclid(self.total_weight);
        }
    }

    /// The tenants that wait, the one whose turn it is first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &TenantId> {
        let places = self.eligible.iter().chain(&self.ahead);
        places.map(|(_, tenant)| tenant)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_waiting == 0
    }

    /// Puts a tenant that waits where its account says.
    fn settle(&mut self, tenant: &TenantId) {
        let Some(account) = self.accounts.get_mut(tenant) else {
            return;
        };
        if !account.waits {
            return;
        }
        let end = account.clock + account.next * SCALE / account.weight;
        let place = if account.clock <= self.now {
            Place::Eligible(end)
        } else {
            Place::Ahead(account.clock)
        };
        let old = account.place.replace(place);
        if let Some(old) = old {
            self.leave(old, tenant);
        }
        match place {
            Place::Eligible(end) => self.eligible.insert((end, tenant.clone())),
            Place::Ahead(clock) => self.ahead.insert((clock, tenant.clone())),
        };
    }

    fn leave(&mut self, place: Place, tenant: &TenantId) {
        match place {
            Place::Eligible(end) => self.eligible.remove(&(end, tenant.clone())),
            Place::Ahead(clock) => self.ahead.remove(&(clock, tenant.clone())),
        };
    }

    /// Whoever the common clock has reached may be served.
    fn catch_up(&mut self) {
        while let Some((clock, tenant)) = self.ahead.first() {
            if *clock > self.now {
                return;
            }
            let tenant = tenant.clone();
            self.settle(&tenant);
        }
    }

    /// Forgets accounts that owe nothing.
    fn forget_idle(&mut self) {
        let n_kept = 2 * self.n_waiting + MAX_IDLE;
        if self.accounts.len() <= self.sweep_at.max(n_kept) {
            return;
        }
        let (now, burst) = (self.now, self.burst);
        self.accounts
            .retain(|_, account| account.waits || !account.is_even(now, burst));
        if self.accounts.len() > self.n_waiting + MAX_OWING {
            self.accounts.retain(|_, account| account.waits);
        }
        // So that each of many idle accounts is looked at a few times and not at every turn.
        self.sweep_at = self.accounts.len() * 2;
    }
}

impl Account {
    /// Whether a new account would be the same.
    fn is_even(&self, now: Point, burst: Nanos) -> bool {
        self.clock <= now - burst * SCALE / self.weight
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t{n}"))
    }

    fn weight(n: u32) -> Weight {
        Weight::new(n).unwrap()
    }

    proptest! {
        /// All tenants always have work; pieces cost what they cost.
        #[test]
        fn nobody_is_ahead_or_behind_by_more_than_the_largest_piece(
            weights in prop::collection::vec(1..1000_u32, 1..12),
            costs in prop::collection::vec(1..200_000_000_i128, 12..300),
        ) {
            let mut shares = Shares::new(Duration::ZERO);
            let largest = costs.iter().copied().max().map_or(0.0, |largest| {
                #[expect(clippy::cast_precision_loss, reason = "the test's own numbers are small")]
                let largest = largest as f64;
                largest
            });
            let mut costs = costs.iter().copied().cycle();
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            let mut next: Vec<Nanos> = Vec::new();
            for (n, &w) in weights.iter().enumerate() {
                next.push(costs.next().unwrap());
                shares.wait(&tenant(n), weight(w), next[n]);
            }
            let mut had = vec![0.0; weights.len()];
            for _ in 0..400 {
                let turn = shares.in_order().next().unwrap().clone();
                let n = (0..weights.len()).find(|&n| tenant(n) == turn).unwrap();
                #[expect(clippy::cast_precision_loss, reason = "the test's own numbers are small")]
                let cost = next[n] as f64;
                had[n] += cost;
                shares.charge(&turn, next[n]);
                next[n] = costs.next().unwrap();
                shares.wait(&turn, weight(weights[n]), next[n]);
                let sum: f64 = had.iter().sum();
                for (had, &w) in had.iter().zip(&weights) {
                    let share = sum * f64::from(w) / total;
                    prop_assert!((had - share).abs() <= largest * 1.000_001, "{had} of {share}");
                }
            }
        }
    }

    #[test]
    fn a_tenant_that_was_idle_claims_nothing_and_still_owes_what_it_had() {
        let mut shares = Shares::new(Duration::ZERO);
        let (a, b) = (tenant(0), tenant(1));
        shares.wait(&a, weight(1), 10);
        for _ in 0..100 {
            shares.charge(&a, 10);
            shares.wait(&a, weight(1), 10);
        }
        shares.wait(&b, weight(1), 10);
        // Not a hundred turns of b, but one each.
        let mut turns = Vec::new();
        for _ in 0..6 {
            let turn = shares.in_order().next().unwrap().clone();
            shares.charge(&turn, 10);
            shares.wait(&turn, weight(1), 10);
            turns.push(turn);
        }
        assert_eq!(turns.iter().filter(|&turn| *turn == b).count(), 3);
        // It leaves right after a large piece, and comes back.
        shares.charge(&b, 1000);
        shares.rest(&b);
        shares.wait(&b, weight(1), 10);
        for _ in 0..40 {
            let turn = shares.in_order().next().unwrap().clone();
            assert_eq!(turn, a);
            shares.charge(&a, 10);
            shares.wait(&a, weight(1), 10);
        }
    }

    #[test]
    fn what_a_piece_cost_less_is_given_back() {
        let mut shares = Shares::new(Duration::ZERO);
        let (a, b) = (tenant(0), tenant(1));
        for tenant in [&a, &b] {
            shares.wait(tenant, weight(1), 100);
        }
        assert_eq!(shares.in_order().next(), Some(&a));
        shares.charge(&a, 100);
        assert_eq!(shares.in_order().next(), Some(&b));
        shares.charge(&a, -99);
        shares.charge(&b, 100);
        for _ in 0..9 {
            assert_eq!(shares.in_order().next(), Some(&a));
            shares.charge(&a, 10);
            shares.wait(&a, weight(1), 10);
        }
    }

    #[test]
    fn a_tenant_that_was_idle_may_have_a_turn_at_once() {
        let mut shares = Shares::default();
        let (a, b) = (tenant(0), tenant(1));
        let tenth = nanos(CLAIM) / 10;
        let serve = |shares: &mut Shares, n_turns: usize| -> Vec<TenantId> {
            let turns = (0..n_turns).map(|_| {
                let turn = shares.in_order().next().unwrap().clone();
                shares.charge(&turn, tenth);
                shares.wait(&turn, weight(1), tenth);
                turn
            });
            turns.collect()
        };
        shares.wait(&a, weight(1), tenth);
        serve(&mut shares, 50);
        shares.wait(&b, weight(1), tenth);
        let n_of_b = |turns: &[TenantId]| turns.iter().filter(|turn| **turn == b).count();
        let turns = serve(&mut shares, 10);
        assert!(n_of_b(&turns) >= 9, "{turns:?}");
        serve(&mut shares, 20);
        // From then on, its share.
        assert!((49..=51).contains(&n_of_b(&serve(&mut shares, 100))));
    }

    #[test]
    fn accounts_that_owe_nothing_are_forgotten() {
        let mut shares = Shares::default();
        let cost = nanos(CLAIM) / 10;
        for n in 0..10_000 {
            let id = tenant(n);
            shares.wait(&id, weight(1), cost);
            shares.charge(&id, cost);
            shares.rest(&id);
        }
        assert!(shares.is_empty());
        assert!(
            shares.accounts.len() <= MAX_IDLE + 1,
            "{}",
            shares.accounts.len()
        );
        assert_eq!((shares.eligible.len(), shares.ahead.len()), (0, 0));
    }

    /// Addresses can have accounts, and whoever asks may come from very many.
    #[test]
    fn accounts_that_owe_are_not_without_end() {
        let mut shares = Shares::default();
        for n in 0..20_000 {
            let id = tenant(n);
            // It never runs, so the common clock stands still.
            shares.wait(&id, weight(1), 1);
            shares.rest(&id);
            assert!(shares.accounts.len() <= 2 * (MAX_OWING + 1));
        }
        // Debts among few are kept.
        let (a, b) = (tenant(0), tenant(1));
        shares.wait(&a, weight(1), 10);
        shares.wait(&b, weight(1), 10);
        shares.charge(&a, 1_000_000_000);
        shares.rest(&a);
        shares.wait(&a, weight(1), 10);
        assert_eq!(shares.in_order().next(), Some(&b));
    }
}
