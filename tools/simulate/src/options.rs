//! What can be asked for.

use anyhow::{Result, ensure};
use clap::Parser;
use lipsync_registry::{EvictionPolicy, ShelfNeeds};

use crate::{
    choice::{Choice, Ring},
    host::whole,
    pattern::Pattern,
    replica::{Costs, Size},
    world::{Closed, Deployment},
};

/// Play a day of a large deployment in virtual time: hit rates, refusals, latencies and the replicas that it needs.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Options {
    /// Replicas of the server.
    #[arg(long, default_value_t = 100)]
    pub(crate) replicas: usize,
    /// How the replica of a call is chosen (repeatable). Default: hash, least loaded, hash with bounded load.
    #[arg(long, value_enum)]
    pub(crate) choice: Vec<Choice>,
    /// Cores of a host.
    #[arg(long, default_value_t = 2)]
    pub(crate) cores: u32,
    /// Replicas on one host.
    #[arg(long, default_value_t = 1)]
    per_host: usize,
    /// Workers of a replica (server.worker_count). Default: as many as the host has cores.
    #[arg(long)]
    workers: Option<usize>,
    /// Avatars.
    #[arg(long, default_value_t = 5000)]
    models: u32,
    /// Exponent of Zipf's law, by which avatars are asked for.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// Models that a replica holds (capacity.max_models).
    #[arg(long, default_value_t = 100)]
    max_models: usize,
    /// Memory for networks of a replica, GiB (capacity.max_memory_gb).
    #[arg(long, default_value_t = 8.0)]
    memory_gb: f64,
    /// Memory of a model's networks, MB.
    #[arg(long, default_value_t = 20.0)]
    model_mb: f64,
    /// Sessions that a replica takes (session.max_sessions).
    #[arg(long, default_value_t = 100)]
    max_sessions: usize,
    /// Calls that may wait for workers (server.queue_size).
    #[arg(long, default_value_t = 100)]
    queue: usize,
    /// Conversations of a whole day.
    #[arg(long, default_value_t = 20_000)]
    conversations: usize,
    /// Mean length of a conversation, s; lengths are log-normal.
    #[arg(long, default_value_t = 200.0)]
    length_s: f64,
    /// Deviation of the logarithm of that length.
    #[arg(long, default_value_t = 1.0)]
    length_sigma: f64,
    /// Mean time for which the avatar speaks, s; then it listens.
    #[arg(long, default_value_t = 6.0)]
    speaks_s: f64,
    /// Mean time for which the avatar listens, s.
    #[arg(long, default_value_t = 6.0)]
    listens_s: f64,
    /// Unary calls of a whole day.
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Frames of a unary call.
    #[arg(long, default_value_t = 50)]
    call_frames: usize,
    /// First hour of the day that is played.
    #[arg(long, default_value_t = 0)]
    from_hour: u32,
    /// Hour of the day at which it ends.
    #[arg(long, default_value_t = 24)]
    to_hour: u32,
    /// Hours at the beginning that are not measured, while caches fill.
    #[arg(long, default_value_t = 0)]
    pub(crate) warm_up_hours: u32,
    /// Look for the fewest replicas that serve it well: 1 in 1,000 refused and shown without the network, and 95 % of
    /// replies begun within a second.
    #[arg(long)]
    pub(crate) needed: bool,
    /// The network on one core, ms a frame.
    #[arg(long, default_value_t = 20.0)]
    frame_ms: f64,
    /// Pasting and encoding on one core, ms a frame.
    #[arg(long, default_value_t = 1.0)]
    paste_ms: f64,
    /// A call without its frames, ms of one core.
    #[arg(long, default_value_t = 5.0)]
    call_ms: f64,
    /// Loading a model, ms of one core.
    #[arg(long, default_value_t = 200.0)]
    load_ms: f64,
    /// Multiply-accumulates of a frame, millions.
    #[arg(long, default_value_t = 500)]
    mmacs: u64,
    /// Envoy's minimum_ring_size.
    #[arg(long, default_value_t = 1024)]
    ring: usize,
    /// Envoy's hash_balance_factor, percent.
    #[arg(long, default_value_t = 150)]
    balance: u64,
    /// Instead of a day: users who each make a call after the other.
    #[arg(long, default_value_t = 0)]
    pub(crate) closed_users: usize,
    /// Their calls, all together.
    #[arg(long, default_value_t = 600)]
    requests: usize,
    /// Calls before those, which are not measured.
    #[arg(long, default_value_t = 200)]
    warm_up: usize,
    /// The same seed gives the same day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Options {
    /// Refuses what cannot be played.
    pub(crate) fn check(&self) -> Result<()> {
        let counts = [
            ("--replicas", self.replicas),
            ("--per-host", self.per_host),
            ("--workers", self.workers.unwrap_or(1)),
            ("--max-models", self.max_models),
            ("--queue", self.queue),
            ("--call-frames", self.call_frames),
            ("--ring", self.ring),
        ];
        for (name, value) in counts {
            ensure!(
                (1..=10_000_000).contains(&value),
                "{name}: expected 1 to 10000000, found {value}"
            );
        }
        for (name, value) in [("--cores", self.cores), ("--models", self.models)] {
            ensure!(value > 0, "{name}: expected 1 or more, found 0");
        }
        let positive = [
            ("--memory-gb", self.memory_gb),
            ("--length-s", self.length_s),
            ("--speaks-s", self.speaks_s),
            ("--listens-s", self.listens_s),
            ("--frame-ms", self.frame_ms),
        ];
        for (name, value) in positive {
            ensure!(
                value > 0.0 && value <= 1e6,
                "{name}: expected more than 0, at most 1000000, found {value}"
            );
        }
        let others = [
            ("--zipf", self.zipf),
            ("--model-mb", self.model_mb),
            ("--length-sigma", self.length_sigma),
            ("--paste-ms", self.paste_ms),
            ("--call-ms", self.call_ms),
            ("--load-ms", self.load_ms),
        ];
        for (name, value) in others {
            ensure!(
                (0.0..=1e6).contains(&value),
                "{name}: expected 0 to 1000000, found {value}"
            );
        }
        let (from, to, warm_up) = (self.from_hour, self.to_hour, self.warm_up_hours);
        ensure!(
            to <= 24 && from < to && warm_up < to - from,
            "--from-hour, --to-hour, --warm-up-hours: expected {from} + {warm_up} < {to} <= 24"
        );
        ensure!(
            self.balance >= 100,
            "--balance: expected 100 or more, found {}",
            self.balance
        );
        Ok(())
    }

    /// The choices to compare.
    pub(crate) fn choices(&self) -> Vec<Choice> {
        if self.choice.is_empty() {
            return vec![Choice::Hash, Choice::LeastLoaded, Choice::BoundedHash];
        }
        self.choice.clone()
    }

    fn n_workers(&self) -> usize {
        let cores = usize::try_from(self.cores).unwrap_or(usize::MAX);
        self.workers.unwrap_or(cores)
    }

    /// This many replicas.
    pub(crate) fn deployment(&self, choice: Choice, n_replicas: usize) -> Deployment {
        let ns = |ms: f64| whole(1e6 * ms);
        Deployment {
            n_replicas,
            n_per_host: self.per_host,
            n_cores: self.cores,
            size: Size {
                n_workers: self.n_workers(),
                max_models: self.max_models,
                max_bytes: whole(self.memory_gb * f64::from(1 << 30)),
                needs: ShelfNeeds {
                    weights_bytes: whole(1e6 * self.model_mb),
                    arena_bytes: 0,
                },
                eviction: EvictionPolicy::Lru,
                max_sessions: self.max_sessions,
                queue_capacity: self.queue,
                macs: self.mmacs.saturating_mul(1_000_000),
            },
            costs: Costs {
                frame_ns: ns(self.frame_ms),
                paste_ns: ns(self.paste_ms),
                call_ns: ns(self.call_ms),
                load_ns: ns(self.load_ms),
            },
            choice,
            ring: Ring {
                size: self.ring,
                balance_percent: self.balance,
                seed: self.seed,
            },
            seed: self.seed,
        }
    }

    /// The day.
    pub(crate) fn pattern(&self) -> Pattern {
        Pattern {
            n_conversations: self.conversations,
            n_calls: self.calls,
            call_frames: self.call_frames,
            hours: (self.from_hour, self.to_hour),
            n_models: self.models,
            exponent: self.zipf,
            length_s: self.length_s,
            length_sigma: self.length_sigma,
            speaks_s: self.speaks_s,
            listens_s: self.listens_s,
        }
    }

    /// The users.
    pub(crate) fn closed(&self) -> Closed {
        Closed {
            n_users: self.closed_users,
            n_warm_up: self.warm_up,
            n_requests: self.requests,
            n_frames: self.call_frames,
            n_models: self.models,
            exponent: self.zipf,
        }
    }

    /// What is played, for above the table.
    pub(crate) fn in_words(&self) -> String {
        let load = match self.closed_users {
            0 => format!(
                "{} conversations and {} calls a day, {} to {} h",
                self.conversations, self.calls, self.from_hour, self.to_hour
            ),
            n_users => format!("{n_users} users, {} calls", self.requests),
        };
        format!(
            "{} replicas of {} cores, {} avatars, at most {} in memory; {load}; {} ms a frame, {} ms a load",
            self.replicas, self.cores, self.models, self.max_models, self.frame_ms, self.load_ms
        )
    }
}
