//! The load test against a real connection and a server that is made up.

mod fake_server;

use std::time::Duration;

use clap::Parser as _;
use fake_server::{Behaviour, serve};
use lipsync_load_test::{
    Error,
    args::Args,
    machine::Machine,
    report::{Outcome, Summary},
    run::Plan,
};
use tokio::sync::watch;

fn args(addr: &str, line: &str) -> Args {
    let fixed = ["t", "--quiet", "--addr", addr, "--warm-up", "0s"];
    let args = Args::parse_from(fixed.into_iter().chain(line.split_whitespace()));
    args.validate().expect("consistent arguments");
    args
}

async fn run(behaviour: Behaviour, line: &str) -> Summary {
    let addr = serve(behaviour).await;
    let args = args(&addr, line);
    let users = args.users;
    let plan = Plan::prepare(args).await.expect("the fake serves mira");
    let (_keep, mut stop) = watch::channel(false);
    plan.run(users, &mut stop).await
}

#[tokio::test]
async fn saturate_counts_frames_and_bytes() {
    let summary = run(
        Behaviour::default(),
        "--profile saturate --users 3 --duration 1s --batch 5 --format rgb",
    )
    .await;
    assert!(summary.requests > 0);
    assert_eq!(summary.ok, summary.requests, "{:?}", summary.outcomes);
    assert_eq!(summary.frames_wanted, summary.requests * 5);
    assert!(summary.frames_per_second > 0.0);
    // 4 x 2 pixels of RGB and a few fields; 21 frames of PCM for 5.
    assert!((24.0..100.0).contains(&summary.bytes_down_per_frame));
    let samples = 21.0 / 5.0 * 1_280.0;
    assert!((samples..samples + 50.0).contains(&summary.bytes_up_per_frame));
}

#[tokio::test]
async fn every_kind_of_input_and_output_is_valid() {
    for (input, format) in [
        ("pcm", "jpeg"),
        ("steps", "png"),
        ("windows", "i420"),
        ("windows", "rgb"),
    ] {
        let line =
            format!("--profile rate --rate 5 --duration 1s --input {input} --format {format}");
        let summary = run(Behaviour::default(), &line).await;
        assert_eq!(summary.requests, 5, "{input} {format}");
        assert!(
            n_sent(&summary) > 0 && summary.ok == n_sent(&summary),
            "{summary:?}"
        );
    }
}

/// Requests for which the run left time: where the machine is slow, the last ones are not sent.
fn n_sent(summary: &Summary) -> u64 {
    summary.requests - summary.outcomes.get("unfinished").unwrap_or(&0)
}

#[tokio::test]
async fn refusals_pass_the_budget() {
    let refusing = Behaviour {
        refuse_every: 2,
        ..Behaviour::default()
    };
    let summary = run(refusing, "--profile rate --rate 10 --duration 1s --users 1").await;
    let n_sent = n_sent(&summary);
    assert!(n_sent > 1, "{summary:?}");
    assert_eq!(summary.outcomes["RESOURCE_EXHAUSTED"], n_sent / 2);
    assert_eq!(summary.ok, n_sent.div_ceil(2));
    let rate = 1.0 - summary.ok as f64 / summary.requests as f64;
    assert!(!summary.within_budget(rate - 0.01) && summary.within_budget(rate + 0.01));
}

#[tokio::test]
async fn streams_return_every_frame_in_order() {
    let summary = run(
        Behaviour::default(),
        "--stream --profile saturate --users 2 --duration 2s",
    )
    .await;
    // Whole utterances of 100 frames, however fast the machine is.
    assert!(summary.requests >= 200, "{summary:?}");
    assert_eq!(summary.ok, summary.requests, "{:?}", summary.outcomes);
    assert!(summary.first_frame_ms.is_some());
    assert!(summary.bytes_up_per_frame >= 1_280.0);
}

#[tokio::test]
async fn live_streams_speak_in_real_time() {
    let summary = run(
        Behaviour::default(),
        "--stream --users 8 --duration 600ms --batch 2",
    )
    .await;
    assert!(summary.requests > 0);
    assert_eq!(summary.ok, summary.requests, "{:?}", summary.outcomes);
    // 8 users speak at most 25 frames/s each.
    assert!(summary.frames_per_second <= 8.0 * 25.0 + 1.0);
}

#[tokio::test]
async fn live_sessions_report_their_frames_and_drift() {
    let summary = run(
        Behaviour::default(),
        "--stream --pacing realtime --profile monologue --users 3 --duration 2500ms --batch 1",
    )
    .await;
    assert_eq!(summary.ok, summary.requests, "{:?}", summary.outcomes);
    let live = summary.live.expect("live sessions");
    assert!(live.first_frame_ms.is_some() && live.interval_ms.is_some());
    assert_eq!((live.drift_sessions, live.clears), (3, 0));
    let json = serde_json::to_value(&live).expect("numbers");
    assert!(json["interval_ms"]["p99"].is_number(), "{json}");
}

#[tokio::test]
async fn interruptions_are_confirmed_and_forgive_what_they_drop() {
    for profile in ["monologue", "saturate"] {
        let line = format!(
            "--stream --pacing realtime --profile {profile} --users 2 --duration 900ms --batch 1 --interrupt-every 200ms"
        );
        let summary = run(Behaviour::default(), &line).await;
        assert!(summary.ok > 0, "{summary:?}");
        let invalid = |name: &&String| name.starts_with("invalid");
        assert_eq!(summary.outcomes.keys().find(invalid), None);
        if profile == "monologue" {
            let live = summary.live.expect("live sessions");
            assert!(live.clears >= 2, "{live:?}");
            assert!(live.clear_ms.is_some());
        }
    }
}

#[tokio::test]
async fn a_frame_after_cleared_is_a_fault() {
    let late = Behaviour {
        frame_after_clear: true,
        ..Behaviour::default()
    };
    let summary = run(
        late,
        "--stream --pacing realtime --profile monologue --users 1 --duration 900ms --batch 1 --interrupt-every 200ms",
    )
    .await;
    assert!(summary.outcomes["invalid protocol"] >= 1, "{summary:?}");
}

#[tokio::test]
async fn frames_lost_by_a_stream_are_noticed() {
    let losing = Behaviour {
        lose_last_frame: true,
        ..Behaviour::default()
    };
    let summary = run(
        losing,
        "--stream --profile saturate --users 1 --duration 2s",
    )
    .await;
    assert!(summary.outcomes["invalid count"] >= 1);
}

#[tokio::test]
async fn a_broken_stream_is_counted_and_opened_again() {
    let breaking = Behaviour {
        break_after_frames: 10,
        ..Behaviour::default()
    };
    let summary = run(
        breaking,
        "--stream --profile saturate --users 1 --duration 1500ms",
    )
    .await;
    assert!(summary.outcomes["UNAVAILABLE"] >= 2 * 90, "{summary:?}");
    assert!(summary.outcomes["OK"] >= 2 * 10);
}

#[tokio::test]
async fn the_search_stops_where_latency_passes_the_goal() {
    // Answers one request at a time: three saturating users wait three times as long as one, never less. Two
    // are far below the goal, so that a pause of a slow machine does not matter.
    let serial = Behaviour {
        serial_delay: Duration::from_millis(300),
        ..Behaviour::default()
    };
    let addr = serve(serial).await;
    let args = args(
        &addr,
        "--profile saturate --find-max-users --slo-p95-ms 890 --duration 2s",
    );
    let plan = Plan::prepare(args.clone())
        .await
        .expect("the fake serves mira");
    let (_keep, stop) = watch::channel(false);
    let capacity = plan.find_max_users(&stop).await;
    assert_eq!(capacity.max_users, 2, "{:?}", capacity.probes);
    let outcome = Outcome::Search(capacity);
    let text = outcome.text(&args, &plan, &Machine::here());
    assert!(text.contains("most users            2"), "{text}");
    let json = serde_json::to_value(outcome.document(&args, &plan, &Machine::here()));
    let json = json.expect("numbers and names");
    assert_eq!(json["max_users"], 2);
    assert_eq!(json["settings"]["slo_p95_ms"], 890);
}

#[tokio::test]
async fn a_stop_ends_the_run_at_once() {
    let addr = serve(Behaviour::default()).await;
    let plan = Plan::prepare(args(&addr, "--duration 60m --profile saturate"))
        .await
        .expect("the fake serves mira");
    let (stop, mut stopped) = watch::channel(false);
    stop.send_replace(true);
    let summary = plan.run(2, &mut stopped).await;
    assert!(summary.measured_s < 60.0);
}

#[tokio::test]
async fn an_unknown_model_is_named() {
    let addr = serve(Behaviour::default()).await;
    let error = Plan::prepare(args(&addr, "--model nobody")).await;
    assert!(matches!(
        error,
        Err(Error::UnknownModel { asked, known }) if asked == "nobody" && known == "mira"
    ));
}

#[tokio::test]
async fn a_comparison_ends_where_it_is_stopped() {
    let addr = serve(Behaviour::default()).await;
    let plan = Plan::prepare(args(&addr, "--compare-alone --users 2")).await;
    let plan = plan.expect("the fake serves mira");
    let (stop, mut stopped) = watch::channel(false);
    let found = plan.compare_alone(&mut stopped).await.expect("answers");
    assert!(found.frames > 0 && found.different == 0, "{found}");
    stop.send_replace(true);
    let found = plan.compare_alone(&mut stopped).await;
    assert!(matches!(found, Err(Error::Stopped)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_one_line_and_a_device_without_an_end_no_audio() {
    let addr = serve(Behaviour::default()).await;
    for (audio, expected) in [
        (
            "/dev/zero",
            "cannot use the audio file: it is larger than 268435456 bytes",
        ),
        ("/dev/null", "cannot use the audio file: it is empty"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lipsync-load-test"));
        command.args(["--addr", &addr, "--duration", "1s", "--audio", audio]);
        command.env("RUST_BACKTRACE", "1");
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.expect("no panic").expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(text, format!("error: {expected}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_nobody_reads_costs_neither_the_run_nor_the_file() {
    let addr = serve(Behaviour::default()).await;
    let document = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("unread-report.json");
    // Of an earlier run.
    let _ = std::fs::remove_file(&document);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lipsync-load-test"));
    command
        .args(["--addr", &addr, "--warm-up", "0s", "--duration", "1s"])
        .args(["--profile", "saturate", "--users", "1", "--json"])
        .arg(&document);
    let (_, stdout) = std::io::pipe().expect("a pipe");
    let (_, stderr) = std::io::pipe().expect("a pipe");
    command.stdout(stdout).stderr(stderr);
    let status = tokio::task::spawn_blocking(move || command.status());
    let status = status.await.expect("no panic").expect("it runs");
    assert_eq!(status.code(), Some(0));
    assert!(document.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_takes_no_document_is_said_before_the_run() {
    let addr = serve(Behaviour::default()).await;
    let folder = env!("CARGO_TARGET_TMPDIR");
    for place in [folder.to_owned(), format!("{folder}/none/report.json")] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lipsync-load-test"));
        // The run would outlive the test.
        command.args(["--addr", &addr, "--duration", "1440m", "--json", &place]);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.expect("no panic").expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.starts_with(&format!("error: cannot write {place}: ")),
            "{text}"
        );
    }
}
