//! The jobs that wait for one device, by level of urgency, tenant and kind of work.
//!
//! A higher level goes first, but where it always has work, one tenth of the time that it leaves others waiting is
//! theirs. The same holds for the calls of a tenant beside its sessions. Within a level, tenants take turns by
//! their [`Shares`]. Within a tenant, the frame that is due first goes first, or the job that came first.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use lipsync_core::{TenantId, Weight};

use super::{
    JobId,
    policy::level_of,
    shares::{Nanos, Shares},
};
use crate::{Claim, Work};

/// The part of the time that those keep who are always passed over.
const RESERVE: Nanos = 10;

/// Which place a job has among others of its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// When its first frame is due, or when it came or last had its turn.
    pub(super) at: Instant,
    /// Orders what comes at the same moment.
    pub(super) number: u64,
    pub(super) job: JobId,
}

/// Whose a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    level: usize,
    pub(super) tenant: TenantId,
    weight: Weight,
    work: Work,
}

impl Owner {
    pub(super) fn of(claim: &Claim) -> Self {
        Self {
            level: level_of(claim.priority),
            tenant: claim.tenant.clone(),
            weight: claim.weight,
            work: claim.work,
        }
    }
}

/// What a job may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is run.
    Run,
    /// It lets others go first, of its own accord.
    Hold,
    /// There is nobody who may run it.
    Blocked,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Levels {
    levels: [Level; 3],
    /// What a level (second) has on account against a higher one (first) that passes it over.
    credits: [[Credit; 3]; 3],
    /// Tenants that went before the job that was found last, but could not run, each with its level.
    passed: Vec<(usize, TenantId)>,
}

/// What somebody who is passed over has on account.
#[derive(Debug, Clone, Copy, Default)]
struct Credit(Nanos);

#[derive(Debug, Default)]
struct Level {
    shares: Shares,
    queues: HashMap<TenantId, Queue>,
}

/// The jobs of one tenant, each with the cost of its next piece.
#[derive(Debug, Default)]
struct Queue {
    live: BTreeMap<Rank, Nanos>,
    unary: BTreeMap<Rank, Nanos>,
    /// Of calls, against sessions.
    credit: Credit,
}

impl Credit {
    /// While both wait, somebody was given `cost`; `is_own`: the one with this account.
    fn note(&mut self, cost: Nanos, is_own: bool) {
        self.0 += cost / RESERVE;
        if is_own {
            self.0 = (self.0 - cost).max(0);
        }
    }
}

impl Queue {
    fn of(&mut self, work: Work) -> &mut BTreeMap<Rank, Nanos> {
        match work {
            Work::Live => &mut self.live,
            Work::Unary => &mut self.unary,
        }
    }

    /// All jobs, the one that goes next first.
    fn in_order(&self) -> impl Iterator<Item = (&Rank, &Nanos)> {
        let [live, unary] = [&self.live, &self.unary];
        let next_call = unary.first_key_value().map(|(_, &cost)| cost);
        let has_live = !live.is_empty();
        let is_owed = has_live && next_call.is_some_and(|cost| self.credit.0 >= cost);
        let [first, second] = if is_owed {
            [unary, live]
        } else {
            [live, unary]
        };
        first.iter().chain(second)
    }

    fn note(&mut self, work: Work, cost: Nanos) {
        if self.live.is_empty() || self.unary.is_empty() {
            self.credit = Credit::default();
        } else {
            self.credit.note(cost, work == Work::Unary);
        }
    }
}

impl Level {
    /// Tells the shares what the tenant's queue holds now.
    fn settle(&mut self, owner: &Owner) {
        let Some(queue) = self.queues.get(&owner.tenant) else {
            return;
        };
        let next = queue.in_order().next().map(|(_, &next)| next);
        match next {
            Some(next) => self.shares.wait(&owner.tenant, owner.weight, next),
            None => {
                self.queues.remove(&owner.tenant);
                self.shares.rest(&owner.tenant);
            }
        }
    }

    fn in_order(&self) -> impl Iterator<Item = (&TenantId, JobId)> {
        let queues = self.shares.in_order();
        let queues = queues.filter_map(|tenant| Some((tenant, self.queues.get(tenant)?)));
        queues.flat_map(|(tenant, queue)| queue.in_order().map(move |(rank, _)| (tenant, rank.job)))
    }

    /// Cost of the piece that goes next.
    fn next_cost(&self) -> Option<Nanos> {
        let tenant = self.shares.in_order().next()?;
        let (_, &cost) = self.queues.get(tenant)?.in_order().next()?;
        Some(cost)
    }
}

impl Levels {
    /// A job waits for its next piece.
    pub(super) fn push(&mut self, owner: &Owner, rank: Rank, next: Nanos) {
        let level = &mut self.levels[owner.level];
        let queue = level.queues.entry(owner.tenant.clone()).or_default();
        queue.of(owner.work).insert(rank, next);
        level.settle(owner);
    }

    /// A job waits no longer.
    pub(super) fn remove(&mut self, owner: &Owner, rank: &Rank) {
        let level = &mut self.levels[owner.level];
        if let Some(queue) = level.queues.get_mut(&owner.tenant) {
            queue.of(owner.work).remove(rank);
            level.settle(owner);
        }
    }

    /// The owner of the job that was found last is given this much. Tenants that were passed over claim nothing for
    /// that time.
    pub(super) fn charge_turn(&mut self, owner: &Owner, cost: Nanos) {
        self.charge(owner, cost);
        let passed = std::mem::take(&mut self.passed);
        let passed = passed
            .iter()
            .filter(|(level, tenant)| *level == owner.level && *tenant != owner.tenant);
        let passed: Vec<&TenantId> = passed.map(|(_, tenant)| tenant).collect();
        if !passed.is_empty() {
            self.levels[owner.level].shares.pass_over(&passed, cost);
        }
    }

    /// An owner was given this much; negative where it was charged too much before.
    pub(super) fn charge(&mut self, owner: &Owner, cost: Nanos) {
        for (above, below) in [(0, 1), (0, 2), (1, 2)] {
            let both_wait =
                !self.levels[above].shares.is_empty() && !self.levels[below].shares.is_empty();
            if both_wait {
                self.credits[above][below].note(cost, owner.level == below);
            }
        }
        let level = &mut self.levels[owner.level];
        level.shares.charge(&owner.tenant, cost);
        if let Some(queue) = level.queues.get_mut(&owner.tenant) {
            queue.note(owner.work, cost);
            level.settle(owner);
        }
    }

    /// The first job that may run, in the order in which they go.
    pub(super) fn find(&mut self, mut judge: impl FnMut(JobId) -> Verdict) -> Option<JobId> {
        let mut passed: Vec<(usize, TenantId)> = Vec::new();
        let mut found = None;
        'search: for level in self.in_order() {
            for (tenant, job) in self.levels[level].in_order() {
                match judge(job) {
                    Verdict::Run => {
                        found = Some(job);
                        break 'search;
                    }
                    Verdict::Blocked if passed.last().is_none_or(|(_, last)| last != tenant) => {
                        passed.push((level, tenant.clone()));
                    }
                    Verdict::Blocked | Verdict::Hold => {}
                }
            }
        }
        self.passed = passed;
        found
    }

    /// The levels that have jobs, the one that goes next first.
    fn in_order(&mut self) -> Vec<usize> {
        let levels = &self.levels;
        let mut order: Vec<usize> = (0..levels.len())
            .filter(|&level| !levels[level].shares.is_empty())
            .collect();
        for (above, below) in [(0, 1), (0, 2), (1, 2)] {
            if !(order.contains(&above) && order.contains(&below)) {
                self.credits[above][below] = Credit::default();
            }
        }
        let Some(&top) = order.first() else {
            return order;
        };
        let is_owed = |&below: &usize| {
            let cost = levels[below].next_cost();
            cost.is_some_and(|cost| self.credits[top][below].0 >= cost)
        };
        let below = order[1..].iter().copied().filter(is_owed);
        if let Some(owed) = below.max_by_key(|&below| self.credits[top][below].0) {
            order.retain(|&level| level != owed);
            order.insert(0, owed);
        }
        order
    }
}
