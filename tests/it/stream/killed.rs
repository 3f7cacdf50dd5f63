//! Sessions that are opened and killed at any point leave nothing behind.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lipsync::v1;
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

use super::{Session, fake_server, pcm_session};
use crate::support::{
    PATIENCE, TestServer,
    process::{is_alone, n_threads, resident_bytes},
    speech::babble,
};

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % n
    }
}

/// Opens a session, lets it come to some point, and drops it with its connection.
async fn live_and_die(server: &TestServer, seed: u64) -> Result<()> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut open = pcm_session(if dice.below(20) == 0 { "nobody" } else { "a" });
    let is_realtime = dice.below(2) == 0;
    open.pacing = if is_realtime {
        v1::Pacing::Realtime
    } else {
        v1::Pacing::Asap
    }
    .into();
    open.idle_frames = dice.below(2) == 0;
    open.audio_echo = dice.below(2) == 0;
    let mut session = Session::open(server, open).await?;
    let mut segment = 1;
    for _ in 0..dice.below(8) {
        match dice.below(6) {
            0..=2 => session.audio(
                segment,
                &babble(1, usize::try_from(dice.below(40_000))? + 1),
            ),
            3 => {
                session.clear(Some(segment));
                segment += 1;
            }
            4 => session.end(0),
            _ => {
                // A killed session's answers are not read to the end, nor do they all come.
                let answer = timeout(Duration::from_millis(dice.below(60)), session.next()).await;
                if !matches!(answer, Ok(Ok(Some(_))) | Err(_)) {
                    return Ok(());
                }
            }
        }
    }
    if dice.below(3) == 0 {
        session.half_close();
    }
    Ok(())
}

/// What one round of sessions may leave in the process: what the allocator keeps, and no session's audio
/// and frames, which are a megabyte or more each.
const SLACK_BYTES: u64 = 64 << 20;

/// Lets sessions live and die, 40 at a time, and waits until the server has nothing left of them.
async fn round(server: &Arc<TestServer>, seeds: Range<u64>) -> Result<()> {
    let mut living = JoinSet::new();
    for seed in seeds {
        if living.len() == 40 {
            // More than the server has places for, now and then, as it takes a moment to see them go.
            drop(living.join_next().await.transpose()?);
        }
        let server = Arc::clone(server);
        living.spawn(async move { live_and_die(&server, seed).await });
    }
    while let Some(life) = living.join_next().await {
        // Whether it was let in or refused.
        drop(life?);
    }
    let stats = server
        .until("nothing is left", |s| {
            let sessions = s.session_stats.unwrap_or_default();
            s.sessions == 0
                && sessions.alive == 0
                && s.queue_depth == 0
                && s.submitted == s.completed + s.failed + s.cancelled
        })
        .await?;
    assert_eq!(stats.failed, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_killed_sessions_leave_nothing() -> Result<()> {
    let name = "stream::killed::five_hundred_killed_sessions_leave_nothing";
    if !is_alone(name).await? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_sessions: 40}").await?;
    let server = Arc::new(server);
    server.stats().await?;
    // The server's housekeeping keeps up to two of the runtime's blocking threads busy now and then.
    let both = Arc::new(std::sync::Barrier::new(2));
    let other = Arc::clone(&both);
    let housekeeping = tokio::task::spawn_blocking(move || other.wait());
    tokio::task::spawn_blocking(move || both.wait()).await?;
    housekeeping.await?;
    let before = (Handle::current().metrics().num_alive_tasks(), n_threads());
    // The first round also grows what grows once: caches, the heaps of threads.
    round(&server, 0..250).await?;
    let resident = resident_bytes();
    round(&server, 250..500).await?;
    if let (Some(before), Some(after)) = (resident, resident_bytes()) {
        assert!(after < before + SLACK_BYTES, "{before} bytes, then {after}");
    }
    let sessions = server.stats().await?.session_stats.unwrap_or_default();
    assert!(sessions.opened > 100, "{}", sessions.opened);
    until_back_at(&server, before).await
}

/// What comes and goes while nobody speaks: the tasks of the connection of the look before, which a busy machine
/// ends late, and threads for blocking work. The runtime wakes those in turn, so that looking keeps them all.
const SLACK_TASKS: usize = 12;
const SLACK_THREADS: usize = 6;

/// Waits until no more tasks and threads live than before, but for what comes and goes: connections take a moment
/// to go, and the runtime keeps idle threads for ten seconds. One task left by one session in ten would be too much.
async fn until_back_at(server: &TestServer, before: (usize, Option<usize>)) -> Result<()> {
    let given_up = Instant::now() + PATIENCE;
    loop {
        server.stats().await?;
        let now = (Handle::current().metrics().num_alive_tasks(), n_threads());
        if now.0 <= before.0 + SLACK_TASKS && now.1 <= before.1.map(|n| n + SLACK_THREADS) {
            return Ok(());
        }
        ensure!(
            Instant::now() < given_up,
            "tasks and threads: {now:?} are left, {before:?} were there before"
        );
        tokio::task::yield_now().await;
    }
}
