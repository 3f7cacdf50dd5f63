//! Sessions that are opened and killed at any point leave nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lipsync::v1;
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

use super::{Session, fake_server, pcm_session};
use crate::support::{TestServer, speech::babble};

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

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_killed_sessions_leave_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, _gate) = fake_server(folder.path(), "session: {max_sessions: 40}").await?;
    let server = std::sync::Arc::new(server);
    server.stats().await?;
    let n_tasks = Handle::current().metrics().num_alive_tasks();
    let mut living = JoinSet::new();
    for seed in 0..500 {
        if living.len() == 40 {
            // More than the server has places for, now and then, as it takes a moment to see them go.
            living.join_next().await.transpose()?;
        }
        let server = std::sync::Arc::clone(&server);
        living.spawn(async move { live_and_die(&server, seed).await });
    }
    let mut n_refused = 0;
    while let Some(life) = living.join_next().await {
        n_refused += usize::from(life?.is_err());
    }
    assert!(n_refused < 250, "most were let in");
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
    let opened = stats.session_stats.unwrap_or_default().opened;
    assert!(opened > 100, "{opened}");
    until_tasks_are_gone(&server, n_tasks).await
}

/// Waits until no more tasks live than before: connections take a moment to go. Each look opens one of
/// its own, so that the count is never a little too low by chance.
async fn until_tasks_are_gone(server: &TestServer, n_before: usize) -> Result<()> {
    let given_up = Instant::now() + Duration::from_secs(60);
    loop {
        server.stats().await?;
        let n_tasks = Handle::current().metrics().num_alive_tasks();
        if n_tasks <= n_before {
            return Ok(());
        }
        ensure!(
            Instant::now() < given_up,
            "{n_tasks} tasks are left, {n_before} were there before"
        );
    }
}
