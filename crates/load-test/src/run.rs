//! One run: users started together, watched, and counted.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use lipsync::{
    client::{Client, ConnectOptions},
    v1::{GetServerStatsRequest, GetServerStatsResponse, Priority},
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    Error,
    args::{Args, Input, Level, MAX_USERS},
    equality::{self, Equality},
    model::{self, Model},
    profile::{self, Profile},
    random::Random,
    report::{OfTenant, Summary},
    search,
    speaker::Speaker,
    stats::{Clock, SharedStats, Stats},
    stream_user::{Manner, StreamUser},
    tenant::{self, Tenant},
    track::Track,
    unary_user::UnaryUser,
};

/// Voices of made-up speech; users of one voice speak from different places of its loop.
const N_VOICES: u64 = 8;
/// Users' places in their loops, in frames. The first frames leave room for context before them.
const OFFSETS: std::ops::Range<u64> = 64..1_000_000;

/// Everything that runs share, made once: connections, models, audio.
#[derive(Debug)]
pub struct Plan {
    args: Args,
    /// One for each tenant; without tenants, one of all users.
    groups: Vec<Group>,
    server: Option<GetServerStatsResponse>,
}

/// Users who show the same key.
#[derive(Debug)]
struct Group {
    /// The tenant's name, where there are tenants.
    name: Option<String>,
    share: u32,
    clients: Vec<Client>,
    models: Vec<Arc<Model>>,
    tracks: Vec<Arc<Track>>,
}

/// The result of a search.
#[derive(Debug)]
pub struct Capacity {
    /// The most users that were served within the goals; 0 if not even one was.
    pub max_users: u64,
    /// Each run, in order.
    pub probes: Vec<Summary>,
}

impl Plan {
    /// Connects, loads the models and makes the audio.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prepare(args: Args) -> Result<Self, Error> {
        let mut groups = Vec::new();
        for tenant in &args.tenants {
            groups.push(Group::prepare(&args, Some(tenant)).await?);
        }
        if groups.is_empty() {
            groups.push(Group::prepare(&args, None).await?);
        }
        let mut server = None;
        for group in &groups {
            // Where there are tenants, only admins may ask.
            let mut admin = group.clients[0].server_admin();
            let asked = admin.get_server_stats(GetServerStatsRequest {}).await;
            server = server.or(asked.ok().map(tonic::Response::into_inner));
        }
        Ok(Self {
            args,
            groups,
            server,
        })
    }

    /// The models, as the server described them, each once.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        let all = self.groups.iter().flat_map(|group| &group.models);
        let mut seen = BTreeSet::new();
        all.map(AsRef::as_ref)
            .filter(move |model: &&Model| seen.insert(&model.id))
    }

    /// Whether keys are sent without TLS to another machine.
    #[must_use]
    pub fn sends_key_in_clear(&self) -> bool {
        let mut clients = self.groups.iter().flat_map(|group| &group.clients);
        clients.any(Client::sends_key_in_clear)
    }

    /// The group of each of `n_users` users, by position.
    fn spread(&self, n_users: u64) -> Vec<usize> {
        let shares: Vec<_> = self.groups.iter().map(|group| group.share).collect();
        tenant::spread(&shares, n_users)
    }

    /// The server's description of itself, if it gave one.
    #[must_use]
    pub fn server(&self) -> Option<&GetServerStatsResponse> {
        self.server.as_ref()
    }

    /// Runs `n_users` users for the configured time, or until `stop` turns true.
    pub async fn run(&self, n_users: u64, stop: &mut watch::Receiver<bool>) -> Summary {
        let clock = Clock {
            start: Instant::now(),
            warm_up: self.args.warm_up,
            end: self.args.warm_up + self.args.measured(),
        };
        let spread = self.spread(n_users);
        let counts = self.groups.iter().enumerate().map(|(n, group)| Counted {
            name: group.name.clone(),
            users: spread.iter().filter(|&&place| place == n).count() as u64,
            stats: SharedStats::new(clock),
        });
        let stats: Vec<Counted> = counts.collect();
        let mut users = JoinSet::new();
        for (user, &n) in (0..n_users).zip(&spread) {
            let group = &self.groups[n];
            users.spawn(self.behaviour(group, (user, n_users), clock, &stats[n].stats));
        }
        let bar = progress_bar(clock.end, self.args.quiet);
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {
                    users.shutdown().await;
                    break;
                }
                _ = tick.tick() => show(&bar, clock, &stats),
                joined = users.join_next() => match joined {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        if let Ok(panic) = error.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                },
            }
        }
        bar.finish_and_clear();
        summary(&stats, clock)
    }

    /// Compares the frames that users get alone with those that they get at once.
    ///
    /// # Errors
    /// [`Error::Refused`]: a request was not answered. [`Error::Stopped`]: `stop` turned true.
    pub async fn compare_alone(&self, stop: &mut watch::Receiver<bool>) -> Result<Equality, Error> {
        let spread = self.spread(self.args.users);
        let users = (0..).zip(&spread).map(|(user, &n)| {
            let group = &self.groups[n];
            (group.client(user).lip_sync(), self.speaker(group, user))
        });
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(Error::Stopped),
            found = equality::compare(users.collect(), self.args.batch, self.args.timeout) => found,
        }
    }

    /// Searches for the most users that the server serves within the goals.
    pub async fn find_max_users(&self, stop: &watch::Receiver<bool>) -> Capacity {
        let probes = std::sync::Mutex::new(Vec::new());
        let found = search::find_max_users(self.args.first_users, MAX_USERS, |n_users| {
            let (probes, mut stop) = (&probes, stop.clone());
            async move {
                let summary = self.run(n_users, &mut stop).await;
                if *stop.borrow() {
                    return Err(Interrupted);
                }
                let passed = self.meets_goals(&summary);
                if !self.args.quiet {
                    // A run goes on where nobody can see how far it is.
                    let _ = writeln!(io::stderr(), "{}", summary.one_line(passed));
                }
                probes
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(summary);
                Ok(passed)
            }
        })
        .await;
        let probes = probes
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // An interrupted search has still found the best load that passed.
        let best = || {
            probes
                .iter()
                .filter(|p| self.meets_goals(p))
                .map(|p| p.users)
        };
        Capacity {
            max_users: found.unwrap_or_else(|Interrupted| best().max().unwrap_or(0)),
            probes,
        }
    }

    fn meets_goals(&self, summary: &Summary) -> bool {
        summary.within_budget(self.args.max_error_rate)
            && summary
                .latency_ms
                .is_some_and(|latency| latency.p95 <= self.args.slo_p95_ms as f64)
    }

    /// Everything that one user does in a run.
    fn behaviour(
        &self,
        group: &Group,
        (user, n_users): (u64, u64),
        clock: Clock,
        stats: &SharedStats,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let args = &self.args;
        let speaker = Arc::new(self.speaker(group, user));
        let fps = args.fps.unwrap_or(speaker.model.fps);
        let client = group.client(user);
        let utterances = profile::utterances(profile::phase(args.seed, user), fps);
        let (timeout, stats, batch) = (args.timeout, stats.clone(), args.batch);
        if args.stream {
            let user = StreamUser {
                client: client.clone(),
                speaker,
                manner: self.manner(fps),
                timeout,
                clock,
                stats,
            };
            return match args.profile {
                Profile::Saturate => Box::pin(user.saturate()),
                Profile::Monologue => {
                    Box::pin(user.converse(Box::new(profile::monologue(clock.end, fps))))
                }
                Profile::Conversational | Profile::Rate => {
                    Box::pin(user.converse(Box::new(utterances)))
                }
            };
        }
        let unary = UnaryUser {
            caller: client.lip_sync(),
            speaker,
            fps,
            timeout,
            clock,
            stats,
        };
        match args.profile {
            Profile::Saturate => Box::pin(unary.saturate(batch)),
            Profile::Conversational => Box::pin(unary.follow(
                utterances.flat_map(move |utterance| profile::shots(utterance, batch, fps)),
            )),
            Profile::Monologue => Box::pin(
                unary.follow(
                    profile::monologue(clock.end, fps)
                        .flat_map(move |utterance| profile::shots(utterance, batch, fps)),
                ),
            ),
            Profile::Rate => {
                let rate = args.rate.unwrap_or(1.0);
                Box::pin(unary.follow(profile::steady(rate, user, n_users, batch)))
            }
        }
    }

    fn manner(&self, fps: u32) -> Manner {
        Manner {
            fps,
            chunk_frames: self.args.batch,
            pacing: self.args.pacing.to_proto(),
            idle_frames: self.args.idle_frames,
            interrupt_every: self.args.interrupt_every,
            player_buffer: self.args.player_buffer,
        }
    }

    fn speaker(&self, group: &Group, user: u64) -> Speaker {
        let model = place(user, group.models.len());
        let track = match self.args.input {
            Input::Pcm => place(user, group.tracks.len()),
            Input::Steps | Input::Windows => model,
        };
        let offset = Random::new(!self.args.seed, user).below(OFFSETS.end - OFFSETS.start);
        Speaker {
            model: Arc::clone(&group.models[model]),
            track: Arc::clone(&group.tracks[track]),
            input: self.args.input,
            offset_frames: OFFSETS.start + offset,
            context_frames: self.args.context,
            output: self.args.output(),
            priority: self
                .args
                .priority
                .map_or(Priority::Unspecified, Level::to_proto),
        }
    }
}

impl Group {
    /// Connects, loads the models and makes the audio of a tenant's users, or of all of them.
    async fn prepare(args: &Args, tenant: Option<&Tenant>) -> Result<Self, Error> {
        let key = tenant.map(|tenant| &tenant.key).or(args.key.as_ref());
        let mut options = connect_options(args)?;
        if let Some(key) = key {
            options = options.api_key(key.reveal());
        }
        let mut clients = vec![options.connect(&args.addr).await?];
        let own = tenant.map(|tenant| &tenant.models);
        let ids = own.filter(|ids| !ids.is_empty()).unwrap_or(&args.models);
        let models = model::load(&clients[0], ids).await?;
        let n_connections = if args.find_max_users {
            u64::from(args.connections)
        } else {
            u64::from(args.connections).min(args.users)
        };
        for _ in 1..n_connections {
            clients.push(options.connect(&args.addr).await?);
        }
        let tracks = tracks(args, &models)?;
        Ok(Self {
            name: tenant.map(|tenant| tenant.name.clone()),
            share: tenant.map_or(1, |tenant| tenant.share),
            clients,
            models: models.into_iter().map(Arc::new).collect(),
            tracks,
        })
    }

    fn client(&self, user: u64) -> &Client {
        &self.clients[place(user, self.clients.len())]
    }
}

/// What a group's users count.
struct Counted {
    name: Option<String>,
    users: u64,
    stats: SharedStats,
}

/// The figures of all users so far, and of each tenant's.
fn summary(counts: &[Counted], clock: Clock) -> Summary {
    let now = clock.now();
    let mut all = Stats::new(clock);
    let mut tenants = Vec::new();
    for of_group in counts {
        let stats = of_group.stats.lock();
        all.add(&stats);
        if let Some(name) = &of_group.name {
            tenants.push(OfTenant {
                tenant: name.clone(),
                figures: Summary::new(of_group.users, &stats, now),
            });
        }
    }
    let n_users = counts.iter().map(|of_group| of_group.users).sum();
    Summary {
        tenants,
        ..Summary::new(n_users, &all, now)
    }
}

/// The search was stopped from outside.
struct Interrupted;

/// Samples: a track per voice, shared by all models. Features: a track per model.
fn tracks(args: &Args, models: &[Model]) -> Result<Vec<Arc<Track>>, Error> {
    let longest_frames = args.batch + 2 * args.context;
    let lowest_fps = models.iter().map(|model| model.fps).min().unwrap_or(1);
    let longest_s = longest_frames / lowest_fps + 2;
    if args.input != Input::Pcm {
        let feature_track = |model: &Model| {
            let unit = model.feature_bytes(args.input)?;
            let track = Track::features(args.seed, unit, longest_frames as usize + 1);
            Ok(Arc::new(track))
        };
        return models.iter().map(feature_track).collect();
    }
    Ok(match &args.audio {
        Some(path) => vec![Arc::new(Track::wav(path, longest_s)?)],
        None => (0..N_VOICES)
            .map(|voice| Arc::new(Track::voice(args.seed, voice, longest_s)))
            .collect(),
    })
}

/// Spreads users over `n` things.
fn place(user: u64, n: usize) -> usize {
    usize::try_from(user).unwrap_or(0) % n
}

fn connect_options(args: &Args) -> Result<ConnectOptions, Error> {
    // A model may take longer to load than a request may take to be answered.
    let options = ConnectOptions::new().answer_timeout(args.timeout.max(Client::ANSWER_TIMEOUT));
    let Some(path) = &args.ca else {
        return Ok(options);
    };
    match lipsync::plain_path::read_at_most(path, 1 << 20) {
        Ok(pem) => Ok(options.ca_certificate(pem)),
        Err(error) => Err(Error::Certificates {
            reason: format!("{}: {error}", path.display()),
        }),
    }
}

fn progress_bar(end: Duration, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {msg}")
        .expect("the template above names known keys only");
    let length = u64::try_from(end.as_millis()).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style)
}

fn show(bar: &ProgressBar, clock: Clock, counts: &[Counted]) {
    if bar.is_hidden() {
        return;
    }
    let now = clock.now();
    let n_users: u64 = counts.iter().map(|of_group| of_group.users).sum();
    let message = if now < clock.warm_up {
        format!("{n_users} users, warming up")
    } else if now < clock.end {
        let summary = summary(counts, clock);
        let p95 = summary.latency_ms.map_or(0.0, |latency| latency.p95);
        format!(
            "{n_users} users, {:.0} frames/s, p95 {p95:.0} ms",
            summary.frames_per_second
        )
    } else {
        format!("{n_users} users, waiting for the last answers")
    };
    bar.set_position(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    bar.set_message(message);
}
