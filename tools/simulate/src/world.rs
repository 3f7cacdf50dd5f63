//! The whole deployment in virtual time: what happens, one thing after the other.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use anyhow::Result;
use lipsync_serving::{admission::Work, caller::Caller};
use lipsync_worker_pool::{Claim, RehearsedStep};

use crate::{
    choice::{Balancer, Choice, Ring},
    dice::{Dice, Wheel},
    found::Found,
    host::Host,
    pattern::{Arrival, Pattern, Wish},
    replica::{Costs, FrameOrder, Replica, Size},
    visit::{Call, Kind, Talk, Visit},
};

mod talks;

/// A user who was refused asks again, as the server advises.
const REFUSED_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;

/// What is played.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) n_replicas: usize,
    /// Replicas that share the cores of a host.
    pub(crate) n_per_host: usize,
    pub(crate) n_cores: u32,
    pub(crate) size: Size,
    pub(crate) costs: Costs,
    pub(crate) choice: Choice,
    pub(crate) ring: Ring,
    pub(crate) seed: u64,
}

/// Users who each ask again as soon as they have their answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closed {
    pub(crate) n_users: usize,
    pub(crate) n_warm_up: usize,
    pub(crate) n_requests: usize,
    pub(crate) n_frames: usize,
    pub(crate) n_models: u32,
    pub(crate) exponent: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// One of the arrivals.
    Arrive(usize),
    /// A task of a host may be done, unless something else has begun or ended there since.
    Done { host: usize, version: u64 },
    /// A conversation goes on.
    Go(usize),
    /// A user asks again.
    Ask,
}

/// What computes.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// All of a call or an opening but its frames.
    Front(usize),
    Load {
        replica: usize,
        model: u32,
    },
    /// The first batch of a worker.
    Batch {
        replica: usize,
        worker: usize,
    },
    /// Pasting and encoding.
    Paste(usize),
}

/// See the module.
pub(crate) struct World {
    plan: Deployment,
    start: Instant,
    now_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    n_events: u64,
    hosts: Vec<Host<Task>>,
    versions: Vec<u64>,
    replicas: Vec<Replica>,
    balancer: Balancer,
    dice: Dice,
    caller: Caller,
    visits: Vec<Visit>,
    pattern: Option<Pattern>,
    closed: Option<(Closed, Wheel)>,
    n_asked: usize,
    measures_from_ns: u64,
    used_before: Vec<f64>,
    n_open: u64,
    found: Found,
}

impl World {
    fn new(plan: &Deployment) -> Result<Self> {
        let replicas = (0..plan.n_replicas).map(|_| Replica::new(&plan.size, &plan.costs));
        let n_hosts = plan.n_replicas.div_ceil(plan.n_per_host);
        Ok(Self {
            start: Instant::now(),
            now_ns: 0,
            events: BinaryHeap::new(),
            n_events: 0,
            hosts: (0..n_hosts).map(|_| Host::new(plan.n_cores)).collect(),
            versions: vec![0; n_hosts],
            replicas: replicas.collect::<Result<_>>()?,
            balancer: Balancer::new(plan.choice, plan.n_replicas, plan.ring),
            dice: Dice::new(plan.seed),
            caller: Caller::default(),
            visits: Vec::new(),
            pattern: None,
            closed: None,
            n_asked: 0,
            measures_from_ns: 0,
            used_before: Vec::new(),
            n_open: 0,
            found: Found::new()?,
            plan: plan.clone(),
        })
    }

    /// Plays the hours of a pattern. What comes in the first `n_warm_up` of them is not measured.
    pub(crate) fn play(plan: &Deployment, pattern: &Pattern, n_warm_up: u32) -> Result<Found> {
        let mut world = Self::new(plan)?;
        // The same people come, whoever serves them.
        let arrivals = pattern.arrivals(&mut Dice::new(plan.seed ^ 1));
        let (from, to) = pattern.hours;
        world.now_ns = u64::from(from) * HOUR_NS;
        world.measures_from_ns = u64::from(from + n_warm_up) * HOUR_NS;
        world.pattern = Some(pattern.clone());
        for (number, arrival) in arrivals.iter().enumerate() {
            world.at(arrival.at_ns, Event::Arrive(number));
        }
        world.run(&arrivals, u64::from(to) * HOUR_NS);
        Ok(world.result())
    }

    /// Plays users who ask again and again.
    pub(crate) fn play_closed(plan: &Deployment, closed: Closed) -> Result<Found> {
        let mut world = Self::new(plan)?;
        let models = Wheel::zipf(closed.n_models, closed.exponent);
        world.closed = Some((closed, models));
        world.measures_from_ns = u64::MAX;
        for _ in 0..closed.n_users {
            world.ask_on();
        }
        world.run(&[], u64::MAX);
        Ok(world.result())
    }

    fn result(mut self) -> Found {
        let from_ns = self.measures_from_ns.min(self.now_ns);
        self.found.lasted_ns = self.now_ns - from_ns;
        let before = self
            .used_before
            .iter()
            .copied()
            .chain(std::iter::repeat(0.0));
        let used = self.hosts.iter().zip(before);
        self.found.used_ns = used.map(|(host, before)| host.used_ns() - before).collect();
        self.found
    }

    fn run(&mut self, arrivals: &[Arrival], until_ns: u64) {
        while let Some(Reverse((at_ns, _, event))) = self.events.pop() {
            if at_ns > until_ns {
                return;
            }
            self.now_ns = at_ns;
            if self.used_before.is_empty() && at_ns >= self.measures_from_ns {
                self.used_before = self.hosts.iter().map(Host::used_ns).collect();
            }
            match event {
                Event::Arrive(number) => self.arrive(arrivals[number]),
                Event::Done { host, version } => {
                    if self.versions[host] == version {
                        for task in self.hosts[host].take_done(at_ns) {
                            self.done(task);
                        }
                        self.look_at(host);
                    }
                }
                Event::Go(visit) => self.go_on(visit),
                Event::Ask => self.ask_on(),
            }
        }
    }

    fn at(&mut self, at_ns: u64, event: Event) {
        self.n_events += 1;
        self.events.push(Reverse((at_ns, self.n_events, event)));
    }

    fn instant(&self, at_ns: u64) -> Instant {
        self.start + Duration::from_nanos(at_ns)
    }

    fn begin(&mut self, replica: usize, task: Task, takes_ns: u64) {
        let host = replica / self.plan.n_per_host;
        self.hosts[host].begin(task, takes_ns, self.now_ns);
        self.look_at(host);
    }

    /// The next event of a host, in place of the one that was expected.
    fn look_at(&mut self, host: usize) {
        self.versions[host] += 1;
        if let Some(at_ns) = self.hosts[host].next_done_ns() {
            let version = self.versions[host];
            self.at(at_ns, Event::Done { host, version });
        }
    }

    fn done(&mut self, task: Task) {
        match task {
            Task::Front(visit) => self.ask_for_model(visit),
            Task::Load { replica, model } => self.loaded(replica, model),
            Task::Batch { replica, worker } => self.batch_done(replica, worker),
            Task::Paste(visit) => self.frames_ready(visit),
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let kind = match arrival.what {
            Wish::Call { n_frames } => Kind::Call(Call {
                n_frames,
                asks_on: false,
            }),
            Wish::Conversation { length_ns } => Kind::Session(Talk::new(length_ns)),
        };
        let counts = self.now_ns >= self.measures_from_ns;
        self.enter(arrival.model, kind, counts);
    }

    /// The next request of a user, if there are more.
    fn ask_on(&mut self) {
        let Some((closed, models)) = &self.closed else {
            return;
        };
        let n_asked = self.n_asked;
        if n_asked >= closed.n_warm_up + closed.n_requests {
            return;
        }
        let counts = n_asked >= closed.n_warm_up;
        if n_asked == closed.n_warm_up {
            self.measures_from_ns = self.now_ns;
        }
        let kind = Kind::Call(Call {
            n_frames: closed.n_frames,
            asks_on: true,
        });
        let model = models.draw(&mut self.dice);
        self.n_asked += 1;
        self.enter(u32::try_from(model).unwrap_or(u32::MAX), kind, counts);
    }

    fn enter(&mut self, model: u32, kind: Kind, counts: bool) {
        let is_session = matches!(kind, Kind::Session(_));
        if counts {
            match is_session {
                true => self.found.n_conversations += 1,
                false => self.found.n_calls += 1,
            }
        }
        let replica = self.balancer.choose(model, &mut self.dice);
        let visit = self.visits.len();
        self.visits.push(Visit {
            replica,
            model,
            began_ns: self.now_ns,
            counts,
            place: None,
            n_left: 0,
            kind,
        });
        let work = if is_session {
            Work::Session
        } else {
            Work::Batch
        };
        // A full server says so before it reads.
        if self.replicas[replica]
            .door
            .expect(&self.caller, work)
            .is_err()
        {
            return self.refuse(visit);
        }
        self.begin(replica, Task::Front(visit), self.plan.costs.call_ns);
    }

    fn ask_for_model(&mut self, visit: usize) {
        let Visit {
            replica,
            model,
            counts,
            ..
        } = self.visits[visit];
        self.found.n_asked += u64::from(counts);
        let of = &mut self.replicas[replica];
        if let Some(waiting) = of.loading.get_mut(&model) {
            return waiting.push(visit);
        }
        if of.shelf.take(model) {
            return self.admit(visit);
        }
        if of.shelf.load(model, self.plan.size.needs).is_err() {
            return self.refuse(visit);
        }
        of.loading.insert(model, vec![visit]);
        self.found.n_loads += u64::from(counts);
        self.begin(
            replica,
            Task::Load { replica, model },
            self.plan.costs.load_ns,
        );
    }

    fn loaded(&mut self, replica: usize, model: u32) {
        let of = &mut self.replicas[replica];
        let waiting = of.loading.remove(&model).unwrap_or_default();
        for _ in &waiting {
            of.shelf.take(model);
        }
        of.shelf.give_back(model);
        for visit in waiting {
            self.admit(visit);
        }
    }

    /// It has its model; now it needs a place.
    fn admit(&mut self, visit: usize) {
        let Visit { replica, model, .. } = self.visits[visit];
        let is_session = matches!(self.visits[visit].kind, Kind::Session(_));
        let work = if is_session {
            Work::Session
        } else {
            Work::Batch
        };
        let Ok(place) = self.replicas[replica].door.admit(&self.caller, work) else {
            self.replicas[replica].shelf.give_back(model);
            return self.refuse(visit);
        };
        self.visits[visit].place = Some(place);
        if !is_session {
            return self.compute_call(visit);
        }
        self.begin_talk(visit);
    }

    fn compute_call(&mut self, visit: usize) {
        let Kind::Call(Call { n_frames, .. }) = self.visits[visit].kind else {
            return;
        };
        if self.order(visit, n_frames, Claim::default()) {
            return;
        }
        self.leave(visit);
        self.refuse(visit);
    }

    /// Has frames made; false where there is no place for them.
    fn order(&mut self, visit: usize, n_frames: usize, claim: Claim) -> bool {
        let now = self.instant(self.now_ns);
        let Visit { replica, model, .. } = self.visits[visit];
        let order = FrameOrder {
            visit,
            model,
            n_frames,
            claim,
        };
        if self.replicas[replica].submit(order, now).is_err() {
            return false;
        }
        self.visits[visit].n_left = n_frames;
        self.hand_out(replica);
        true
    }

    fn hand_out(&mut self, replica: usize) {
        let now = self.instant(self.now_ns);
        while let RehearsedStep::Hand(batch) = self.replicas[replica].pool.step(now) {
            let worker = batch.worker;
            let line = &mut self.replicas[replica].lines[worker];
            line.push_back(batch);
            if line.len() == 1 {
                self.run_next(replica, worker);
            }
        }
    }

    fn run_next(&mut self, replica: usize, worker: usize) {
        let Some(batch) = self.replicas[replica].lines[worker].front() else {
            return;
        };
        let n_frames: usize = batch.parts.iter().map(|(_, n)| n).sum();
        let takes_ns = n_frames as u64 * self.plan.costs.frame_ns;
        self.begin(replica, Task::Batch { replica, worker }, takes_ns);
    }

    fn batch_done(&mut self, replica: usize, worker: usize) {
        let of = &mut self.replicas[replica];
        let Some(batch) = of.lines[worker].pop_front() else {
            return;
        };
        let n_frames: usize = batch.parts.iter().map(|(_, n)| n).sum();
        let took = Duration::from_nanos(n_frames as u64 * self.plan.costs.frame_ns);
        of.pool.done(worker, took);
        self.run_next(replica, worker);
        for (job, n_frames) in batch.parts {
            let Some(&visit) = self.replicas[replica].jobs.get(&job) else {
                continue;
            };
            let of = &mut self.visits[visit];
            of.n_left -= n_frames.min(of.n_left);
            if of.n_left == 0 {
                self.replicas[replica].jobs.remove(&job);
                self.paste(visit);
            }
        }
        self.hand_out(replica);
    }

    fn paste(&mut self, visit: usize) {
        let of = &self.visits[visit];
        let n_frames = match &of.kind {
            Kind::Call(call) => call.n_frames as u64,
            Kind::Session(talk) => talk.n_batch,
        };
        let takes_ns = n_frames * self.plan.costs.paste_ns;
        self.begin(of.replica, Task::Paste(visit), takes_ns);
    }

    fn frames_ready(&mut self, visit: usize) {
        let Visit {
            replica,
            model,
            began_ns,
            counts,
            ..
        } = self.visits[visit];
        self.replicas[replica].shelf.touch(model);
        match self.visits[visit].kind {
            Kind::Call(call) => {
                if counts {
                    let took_us = (self.now_ns - began_ns) / 1000;
                    self.found.call_us.saturating_record(took_us);
                }
                self.leave(visit);
                self.balancer.end(replica);
                if call.asks_on {
                    self.ask_on();
                }
            }
            Kind::Session(_) => self.reply_goes_on(visit),
        }
    }

    /// Gives back what it holds.
    fn leave(&mut self, visit: usize) {
        let Visit { replica, model, .. } = self.visits[visit];
        self.visits[visit].place = None;
        self.replicas[replica].shelf.give_back(model);
    }

    fn refuse(&mut self, visit: usize) {
        let Visit {
            replica, counts, ..
        } = self.visits[visit];
        self.balancer.end(replica);
        match self.visits[visit].kind {
            Kind::Session(_) => self.found.n_refused_conversations += u64::from(counts),
            Kind::Call(call) => {
                self.found.n_refused_calls += u64::from(counts);
                if call.asks_on {
                    self.at(self.now_ns + REFUSED_NS, Event::Ask);
                }
            }
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
