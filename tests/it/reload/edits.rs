//! Edits of all kinds while sessions speak: no frame is lost or wrong, and each edit has the outcome that it should.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use lipsync::{client::Client, v1::stream_composite_response::Message as Answer};
use lipsync_server::reload::{Refusal, Report};
use tokio::task::JoinSet;
use tonic::Code;

use super::{Edited, replace};
use crate::{
    stream::{Session, frames, pcm_session},
    support::speech::{babble, pcm_request, windows_request},
};

const N_SESSIONS: u64 = 8;
/// Frames of each segment.
const N_FRAMES: usize = 10;
const A: &str = "capacity: {bake: off}\nmodels:\n  a: {path: a, preload: true}\n";

/// Sessions that speak one segment after the other, until they may stop.
struct Speakers {
    tasks: JoinSet<Result<u64>>,
    may_stop: Arc<AtomicBool>,
    n_segments: Arc<AtomicU64>,
}

impl Speakers {
    async fn start(client: &Client) -> Result<Self> {
        let mut speakers = Self {
            tasks: JoinSet::new(),
            may_stop: Arc::default(),
            n_segments: Arc::default(),
        };
        for seed in 0..N_SESSIONS {
            let samples = babble(u32::try_from(seed)?, 640 * N_FRAMES);
            let whole = client
                .infer_batch_composite(pcm_request("a", &samples))
                .await?;
            let expected: Vec<_> = whole.frames.into_iter().map(|frame| frame.data).collect();
            ensure!(expected.len() == N_FRAMES);
            let session = Session::over(client, pcm_session("a")).await?;
            let (may_stop, n_segments) = (
                Arc::clone(&speakers.may_stop),
                Arc::clone(&speakers.n_segments),
            );
            speakers.tasks.spawn(async move {
                let mut said = 0;
                let mut session = session;
                ensure!(matches!(session.next().await?, Some(Answer::Opened(_))));
                while !may_stop.load(Ordering::SeqCst) {
                    said += 1;
                    session.audio(said, &samples);
                    session.end(said);
                    let answers = segment(&mut session).await?;
                    let frames = frames(&answers);
                    ensure!(
                        frames.len() == N_FRAMES,
                        "{} frames in {said}",
                        frames.len()
                    );
                    let first = (said - 1) * N_FRAMES as u64;
                    for ((n, frame), expected) in (first..).zip(frames).zip(&expected) {
                        ensure!(frame.frame_index == n && frame.pts_us == n * 40_000);
                        ensure!(frame.data == *expected, "frame {n} of segment {said}");
                    }
                    n_segments.fetch_add(1, Ordering::SeqCst);
                }
                session.half_close();
                ensure!(frames(&session.rest().await?).is_empty());
                Ok(said)
            });
        }
        Ok(speakers)
    }

    /// Lets each of them say something more, so that an edit falls between their words.
    async fn go_on(&mut self) -> Result<()> {
        let target = self.n_segments.load(Ordering::SeqCst) + N_SESSIONS;
        while self.n_segments.load(Ordering::SeqCst) < target {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                anyhow::bail!("a session has ended");
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn stop(mut self) -> Result<u64> {
        self.may_stop.store(true, Ordering::SeqCst);
        let mut n_segments = 0;
        while let Some(ended) = self.tasks.join_next().await {
            n_segments += ended??;
        }
        Ok(n_segments)
    }
}

/// All up to the end of a segment.
async fn segment(session: &mut Session) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    loop {
        let answer = session.next().await?.context("the session has ended")?;
        if matches!(answer, Answer::SegmentEnd(_)) {
            return Ok(answers);
        }
        answers.push(answer);
    }
}

/// What an edit should come to.
enum Outcome {
    /// It is in force; these hot keys have changed, and these need a restart.
    Applied(&'static [&'static str], &'static [&'static str]),
    /// Nothing has changed; the error begins so after the file's name.
    Refused(&'static str),
}

use Outcome::{Applied, Refused};

/// Edits, each after the one before; `{A}` stands for the models.
const EDITS: [(&str, Outcome); 23] = [
    (
        "{A}server: {max_batch_frames: 63}",
        Applied(&["server.max_batch_frames"], &[]),
    ),
    (
        "{A}server: {max_batch_frames: 0}",
        Refused(":4:10: server.max_batch_frames: expected 1 to 4096, found 0"),
    ),
    ("{A}server: {max_batch_fra", Refused(":")),
    ("{A}sever: {}", Refused(":4:1: sever: ")),
    ("{A}a", Refused(":")),
    (" \n", Refused(": the file is empty")),
    (
        "# models: {a: {path: a}}\n---\n{}\n",
        Refused(": the file is empty, or has comments alone"),
    ),
    (
        "{A}server: {queue_size: 9}",
        Applied(&["server.max_batch_frames"], &["server.queue_size"]),
    ),
    (
        "{A}server: {worker_count: 9}\noperations: {enabled: false}",
        Applied(&[], &["operations.enabled", "server.worker_count"]),
    ),
    ("{A}  b: {path: b}", Applied(&[], &[])),
    ("{A}  b: {path: b, fps: 30}", Applied(&[], &[])),
    (
        "{A}  b: {path: b, fps: 121}",
        Refused(":4:16: models.b.fps: expected 1 to 120, found 121"),
    ),
    ("{A}  b: {path: nowhere}", Applied(&[], &[])),
    (
        "capacity: {bake: off}\nmodels: {b: {path: b}}",
        Applied(&[], &[]),
    ),
    ("{A}  b: {path: b}", Applied(&[], &[])),
    (
        "{A}capacity: {}",
        Refused(":4:1: capacity: this is a duplicate"),
    ),
    (
        "{A}output: {format: png, jpeg_quality: 50}",
        Applied(&["output.format", "output.jpeg_quality"], &[]),
    ),
    ("{A}output: {format: gif}", Refused(":4:")),
    (
        "{A}session: {max_sessions: 1, send_timeout_s: 1, max_unsent_ms: 40}",
        Applied(
            &[
                "output.format",
                "output.jpeg_quality",
                "session.max_sessions",
                "session.max_unsent_ms",
                "session.send_timeout_s",
            ],
            &[],
        ),
    ),
    (
        "{A}scan_models_root: true",
        Applied(
            &[
                "scan_models_root",
                "session.max_sessions",
                "session.max_unsent_ms",
                "session.send_timeout_s",
            ],
            &[],
        ),
    ),
    ("{A}", Applied(&["scan_models_root"], &[])),
    (
        "{A}session: {idle_timeout_s: 1, max_buffered_audio_s: 1}\nlogging: {level: loud}",
        Refused(":5:11: logging.level: "),
    ),
    ("{A}", Applied(&[], &[])),
];

fn check(text: &str, outcome: &Outcome, became: &Result<Report, Refusal>) -> Result<()> {
    let is_so = match (outcome, became) {
        (Applied(changed, cold), Ok(report)) => {
            report.changed == *changed && report.needs_restart == *cold
        }
        (Refused(begins), Err(refusal)) => {
            let text = refusal.to_string();
            let after = text.split_once("config.yaml").map(|(_, after)| after);
            after.is_some_and(|after| after.starts_with(begins))
        }
        _ => false,
    };
    ensure!(is_so, "{text}\n{became:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_notices_any_edit() -> Result<()> {
    let edited = Edited::start(A).await?;
    let client = edited.server.client().await?;
    let mut speakers = Speakers::start(&client).await?;
    for (text, outcome) in &EDITS {
        let became = edited.reload(&text.replace("{A}", A)).await?;
        check(text, outcome, &became)?;
        speakers.go_on().await?;
    }
    let count = |is: fn(&Outcome) -> bool| EDITS.iter().filter(|(_, outcome)| is(outcome)).count();
    let stats = edited.stats();
    assert_eq!(
        stats.refused,
        count(|outcome| matches!(outcome, Refused(_))) as u64
    );
    assert_eq!(stats.rolled_back, 0);
    // A model that is gone is gone for newcomers, whoever still speaks with it.
    edited.put("models: {b: {path: b}}").await?;
    let call = client
        .infer_batch_composite(windows_request("a", &[1.0]))
        .await;
    assert_eq!(call.unwrap_err().code(), Code::NotFound);
    speakers.go_on().await?;
    assert!(speakers.stop().await? >= N_SESSIONS * EDITS.len() as u64);
    assert!(edited.server.shut_down().await);
    Ok(())
}

/// Folders as Kubernetes lays out a ConfigMap: the file is a link into a folder that is a link.
fn turn(folder: &Path, n: u32, text: &str) -> Result<()> {
    let data = format!("..data_{n}");
    fs::create_dir(folder.join(&data))?;
    fs::write(folder.join(&data).join("config.yaml"), text)?;
    symlink(&data, folder.join("..data_tmp"))?;
    Ok(fs::rename(
        folder.join("..data_tmp"),
        folder.join("..data"),
    )?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_is_read_by_itself() -> Result<()> {
    let folder = tempfile::tempdir()?;
    crate::support::avatar::write_fake(&folder.path().join("a"), 1)?;
    let file = folder.path().join("config.yaml");
    let text = |frames: u32| format!("{A}server: {{max_batch_frames: {frames}}}\n");
    turn(folder.path(), 0, &text(20))?;
    symlink("..data/config.yaml", &file)?;
    let edited = Edited::start_at(file.clone(), folder).await?;
    let client = edited.server.client().await?;
    let mut speakers = Speakers::start(&client).await?;
    let frames = || {
        edited
            .server
            .running()
            .shared()
            .hot()
            .requests
            .max_batch_frames
    };
    // A folder is turned.
    turn(edited.folder.path(), 1, &text(21))?;
    edited
        .until("it is turned", |stats| stats.applied == 1)
        .await?;
    assert_eq!(frames(), 21);
    speakers.go_on().await?;
    // Half a file, for longer than a file may be half.
    fs::remove_file(&file)?;
    fs::write(&file, &text(22)[..text(22).len() - 7])?;
    edited
        .until("half of it is refused", |stats| stats.refused == 1)
        .await?;
    assert_eq!(frames(), 21);
    fs::write(&file, text(22))?;
    edited
        .until("the whole is taken", |stats| stats.applied == 2)
        .await?;
    assert_eq!(frames(), 22);
    speakers.go_on().await?;
    // Written in place, and replaced.
    fs::write(&file, text(23))?;
    edited
        .until("it is written", |stats| stats.applied == 3)
        .await?;
    replace(&file, &text(24))?;
    edited
        .until("it is replaced", |stats| stats.applied == 4)
        .await?;
    assert_eq!(frames(), 24);
    // Gone is no change.
    fs::rename(&file, file.with_extension("away"))?;
    speakers.go_on().await?;
    replace(&file, &text(25))?;
    let stats = edited
        .until("it is there again", |stats| stats.applied == 5)
        .await?;
    assert_eq!((frames(), stats.refused, stats.rolled_back), (25, 1, 0));
    speakers.stop().await?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_the_file_is_given_up() -> Result<()> {
    use lipsync_server::reload::Cause;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let edited = Edited::start(A).await?;
    fs::remove_file(&edited.file)?;
    mknodat(CWD, &edited.file, FileType::Fifo, Mode::from(0o600), 0)?;
    let reload = &edited.server.running().shared().reload;
    // Whoever else reads it, as the server does by itself, is waited for.
    let refused = reload.reload(Cause::Signal).await.expect_err("a pipe");
    assert!(refused.to_string().contains("it is a pipe"), "{refused}");
    replace(&edited.file, &format!("{A}session: {{max_sessions: 7}}\n"))?;
    reload.reload(Cause::Signal).await?;
    let hot = edited.server.running().shared().hot();
    assert_eq!(hot.session.max_sessions, 7);
    Ok(())
}
