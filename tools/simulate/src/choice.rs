//! Which replica a call goes to, as Envoy chooses it.

use clap::ValueEnum;

use crate::dice::{Dice, mixed};

/// How a replica is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Any (`RANDOM`).
    Random,
    /// The less busy of two drawn ones (`LEAST_REQUEST`).
    LeastLoaded,
    /// The model's home (`RING_HASH`).
    Hash,
    /// The model's home; another one while it has more than a multiple of the mean load
    /// (`RING_HASH` with `hash_balance_factor`).
    BoundedHash,
}

impl Choice {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::LeastLoaded => "least loaded of two",
            Self::Hash => "hash",
            Self::BoundedHash => "hash, bounded load",
        }
    }
}

/// Chooses replicas.
#[derive(Debug)]
pub(crate) struct Balancer {
    choice: Choice,
    /// Points of all replicas, ascending.
    ring: Vec<(u64, usize)>,
    /// Calls and sessions that are open at each.
    n_open: Vec<u64>,
    balance_percent: u64,
    seed: u64,
}

/// What hashes are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ring {
    /// Envoy's `minimum_ring_size`.
    pub(crate) size: usize,
    /// Envoy's `hash_balance_factor`.
    pub(crate) balance_percent: u64,
    /// Which homes models have.
    pub(crate) seed: u64,
}

impl Balancer {
    pub(crate) fn new(choice: Choice, n_replicas: usize, of: Ring) -> Self {
        let n_points = of.size.div_ceil(n_replicas.max(1));
        let points = (0..n_replicas).flat_map(|replica| {
            let seed = mixed(replica as u64 + 1);
            (0..n_points).map(move |n| (mixed(seed.wrapping_add(n as u64)), replica))
        });
        let mut ring: Vec<_> = points.collect();
        ring.sort_unstable();
        Self {
            choice,
            ring,
            n_open: vec![0; n_replicas],
            balance_percent: of.balance_percent,
            seed: of.seed,
        }
    }

    /// The replica for a call, which is open there from now on.
    pub(crate) fn choose(&mut self, model: u32, dice: &mut Dice) -> usize {
        let replica = match self.choice {
            Choice::Random => dice.below(self.n_open.len()),
            Choice::LeastLoaded => {
                let [one, other] = [(); 2].map(|()| dice.below(self.n_open.len()));
                if self.n_open[other] < self.n_open[one] {
                    other
                } else {
                    one
                }
            }
            Choice::Hash => self.home(model),
            Choice::BoundedHash => self.bounded(model),
        };
        self.n_open[replica] += 1;
        replica
    }

    /// A call has ended.
    pub(crate) fn end(&mut self, replica: usize) {
        self.n_open[replica] -= 1;
    }

    /// The replica whose point comes first after the model's.
    pub(crate) fn home(&self, model: u32) -> usize {
        let place = self.point(model);
        let next = self.ring.partition_point(|(at, _)| *at < place);
        self.ring[next % self.ring.len()].1
    }

    /// As Envoy has it: a replica may hold its part of `balance_percent` of all that is open; else the others are looked
    /// at in an order of the model's own, and where all hold more, the least loaded is taken.
    fn bounded(&self, model: u32) -> usize {
        let home = self.home(model);
        let n = self.n_open.len() as u64;
        let n_open: u64 = self.n_open.iter().sum();
        let n_slots = ((n_open + 1) * self.balance_percent)
            .div_ceil(100)
            .div_ceil(n)
            .max(1);
        if self.n_open[home] <= n_slots {
            return home;
        }
        let mut others: Vec<usize> = (0..self.n_open.len()).collect();
        let mut order = Dice::new(self.point(model));
        for place in (1..others.len()).rev() {
            others.swap(place, order.below(place + 1));
        }
        let free = others.iter().find(|&&other| self.n_open[other] <= n_slots);
        let least = others.iter().min_by_key(|&&other| self.n_open[other]);
        free.or(least).copied().unwrap_or(home)
    }

    fn point(&self, model: u32) -> u64 {
        // Not from the same numbers as the replicas' points, or models would lie on them.
        mixed(mixed(!self.seed) ^ u64::from(model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: Ring = Ring {
        size: 1024,
        balance_percent: 150,
        seed: 1,
    };

    #[test]
    fn a_model_keeps_its_home_and_few_move_when_a_replica_goes() {
        // As many points of each: Envoy's ring has more of each where there are fewer replicas.
        let [four, three] = [4, 3].map(|n| {
            let size = 256 * n;
            Balancer::new(Choice::Hash, n, Ring { size, ..RING })
        });
        let homes = |balancer: &Balancer| (0..4000).map(|m| balancer.home(m)).collect::<Vec<_>>();
        let (before, after) = (homes(&four), homes(&three));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!((500..1500).contains(&moved), "about a quarter: {moved}");
        assert!(before.iter().zip(&after).all(|(a, b)| a == b || *a == 3));
    }

    #[test]
    fn homes_are_spread_whatever_the_seed() {
        for seed in 0..20 {
            let balancer = Balancer::new(Choice::Hash, 3, Ring { seed, ..RING });
            let mut n_models = [0; 3];
            for model in 0..60 {
                n_models[balancer.home(model)] += 1;
            }
            let has_a_share = |n: &i32| (8..34).contains(n);
            assert!(
                n_models.iter().all(has_a_share),
                "seed {seed}: {n_models:?}"
            );
        }
    }

    #[test]
    fn a_busy_home_passes_calls_on_to_the_same_neighbour() {
        let mut dice = Dice::new(1);
        let mut balancer = Balancer::new(Choice::BoundedHash, 4, RING);
        let home = balancer.home(7);
        let chosen: Vec<_> = (0..6).map(|_| balancer.choose(7, &mut dice)).collect();
        // With three open there are 4 * 1.5 slots, two for each of four. The home has three, which is too many.
        assert_eq!(chosen[..3], [home; 3]);
        assert_ne!(chosen[3], home);
        assert_eq!(chosen[4], chosen[3]);
        // With five open, three each.
        assert_eq!(chosen[5], home);
        let mut unbounded = Balancer::new(Choice::Hash, 4, RING);
        assert!((0..9).all(|_| unbounded.choose(7, &mut dice) == home));
    }

    #[test]
    fn the_less_busy_of_two_is_taken() {
        let mut dice = Dice::new(1);
        let mut balancer = Balancer::new(Choice::LeastLoaded, 3, RING);
        for _ in 0..300 {
            balancer.choose(1, &mut dice);
        }
        let n = &balancer.n_open;
        assert!(n.iter().all(|n| (95..106).contains(n)), "{n:?}");
    }
}
