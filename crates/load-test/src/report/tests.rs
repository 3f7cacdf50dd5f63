//! What is made of counts.

use std::time::Duration;

use tokio::time::Instant;

use super::Summary;
use crate::stats::{Clock, Outcome, Sample, Stats};

fn summary(outcomes: &[Outcome]) -> Summary {
    let mut stats = Stats::new(Clock {
        start: Instant::now(),
        warm_up: Duration::ZERO,
        end: Duration::from_secs(2),
    });
    for outcome in outcomes {
        stats.record(&Sample {
            intended: Duration::ZERO,
            sent: Some(Duration::ZERO),
            done: Duration::from_millis(100),
            due: Duration::from_millis(320),
            n_frames: 8,
            bytes_up: 80,
            bytes_down: 8_000,
            outcome: *outcome,
        });
    }
    Summary::new(1, &stats, Duration::from_secs(9))
}

#[test]
fn rates_and_budget() {
    let unavailable = Outcome::Status(tonic::Code::Unavailable);
    let summary = summary(&[
        Outcome::Frames,
        Outcome::Frames,
        Outcome::Frames,
        unavailable,
    ]);
    assert_eq!(summary.frames_per_second, 12.0);
    assert_eq!(summary.bytes_down_per_frame, 1_000.0);
    assert_eq!(summary.error_rate, 0.25);
    assert!(summary.within_budget(0.25) && !summary.within_budget(0.24));
    let table = summary.table("request");
    assert!(table.contains("UNAVAILABLE"), "{table}");
    assert!(table.contains("8 of 32 (25.00 %)"), "{table}");
}

#[test]
fn an_empty_run_passes_no_budget() {
    let summary = summary(&[]);
    assert!(!summary.within_budget(1.0));
    assert_eq!(summary.latency_ms, None);
    assert!(summary.table("request").contains("0 of 0 (0.00 %)"));
}
