//! One run: users started together, watched, and counted.

use std::{
    io::{self, Write as _},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use lipsync::{
    client::{Client, ConnectOptions},
    v1::{GetServerStatsRequest, GetServerStatsResponse},
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    Error,
    args::{Args, Input, MAX_USERS},
    equality::{self, Equality},
    model::{self, Model},
    profile::{self, Profile},
    random::Random,
    report::Summary,
    search,
    speaker::Speaker,
    stats::{Clock, SharedStats},
    stream_user::{Manner, StreamUser},
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
    clients: Vec<Client>,
    models: Vec<Arc<Model>>,
    tracks: Vec<Arc<Track>>,
    server: Option<GetServerStatsResponse>,
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
        let options = connect_options(&args)?;
        let mut clients = vec![options.connect(&args.addr).await?];
        let models = model::load(&clients[0], &args.models).await?;
        let n_connections = if args.find_max_users {
            u64::from(args.connections)
        } else {
            u64::from(args.connections).min(args.users)
        };
        for _ in 1..n_connections {
            clients.push(options.connect(&args.addr).await?);
        }
        let tracks = tracks(&args, &models)?;
        let server = clients[0]
            .server_admin()
            .get_server_stats(GetServerStatsRequest {})
            .await
            .ok()
            .map(tonic::Response::into_inner);
        Ok(Self {
            args,
            clients,
            models: models.into_iter().map(Arc::new).collect(),
            tracks,
            server,
        })
    }

    /// The models, as the server described them.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().map(AsRef::as_ref)
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
        let stats = SharedStats::new(clock);
        let mut users = JoinSet::new();
        for user in 0..n_users {
            users.spawn(self.behaviour(user, n_users, clock, &stats));
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
                _ = tick.tick() => show(&bar, clock, n_users, &stats),
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
        Summary::new(n_users, &stats.lock(), clock.now())
    }

    /// Compares the frames that users get alone with those that they get at once.
    ///
    /// # Errors
    /// [`Error::Refused`]: a request was not answered. [`Error::Stopped`]: `stop` turned true.
    pub async fn compare_alone(&self, stop: &mut watch::Receiver<bool>) -> Result<Equality, Error> {
        let client = |user| self.clients[place(user, self.clients.len())].lip_sync();
        let users = (0..self.args.users).map(|user| (client(user), self.speaker(user)));
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
        user: u64,
        n_users: u64,
        clock: Clock,
        stats: &SharedStats,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let args = &self.args;
        let speaker = Arc::new(self.speaker(user));
        let fps = args.fps.unwrap_or(speaker.model.fps);
        let client = &self.clients[place(user, self.clients.len())];
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

    fn speaker(&self, user: u64) -> Speaker {
        let model = place(user, self.models.len());
        let track = match self.args.input {
            Input::Pcm => place(user, self.tracks.len()),
            Input::Steps | Input::Windows => model,
        };
        let offset = Random::new(!self.args.seed, user).below(OFFSETS.end - OFFSETS.start);
        Speaker {
            model: Arc::clone(&self.models[model]),
            track: Arc::clone(&self.tracks[track]),
            input: self.args.input,
            offset_frames: OFFSETS.start + offset,
            context_frames: self.args.context,
            output: self.args.output(),
        }
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

fn show(bar: &ProgressBar, clock: Clock, n_users: u64, stats: &SharedStats) {
    if bar.is_hidden() {
        return;
    }
    let now = clock.now();
    let message = if now < clock.warm_up {
        format!("{n_users} users, warming up")
    } else if now < clock.end {
        let summary = Summary::new(n_users, &stats.lock(), now);
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
