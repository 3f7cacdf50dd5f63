//! What is traced, and what happens where nobody takes it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use lipsync_serving::telemetry::{Passage, Spent, Stage, Witness as _};

use super::*;
use crate::config::Traces;

fn settings(sample_ratio: f64) -> Traces {
    Traces {
        // Nobody listens there.
        endpoint: http::Uri::from_static("http://127.0.0.1:1"),
        sample_ratio,
        headers: HeaderMap::new(),
        service_name: "test".into(),
        timeout: Duration::from_millis(100),
    }
}

fn parent(flags: &str) -> HeaderMap {
    let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    let value = HeaderValue::from_str(&text).unwrap();
    HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), value)])
}

const ENDING: Ending<'_> = Ending {
    words: &[("a", "b"), ("empty", "")],
    numbers: &[("n", 7)],
    fault: None,
    answered: None,
};

#[test]
fn the_client_decides_or_else_chance_does() {
    let none = HeaderMap::new();
    let part = |ratio: f64, headers: &HeaderMap| {
        let (tracer, _spans) = Tracer::new(settings(ratio));
        let traced = (0..400).filter(|_| tracer.begin("a", headers).is_some());
        traced.count()
    };
    assert_eq!((part(0.0, &none), part(1.0, &none)), (0, 400));
    let half = part(0.5, &none);
    assert!((100..300).contains(&half), "{half}");
    assert_eq!(
        (part(0.0, &parent("01")), part(1.0, &parent("00"))),
        (400, 0)
    );
}

#[test]
fn spans_that_find_no_room_are_counted() {
    let (tracer, spans) = Tracer::new(settings(1.0));
    for _ in 0..5000 {
        tracer.begin("a", &HeaderMap::new()).unwrap().end(&ENDING);
    }
    let n_dropped = tracer.figures().dropped.get();
    assert!(n_dropped > 500 && n_dropped < 1000, "{n_dropped}");
    drop(spans);
}

#[test]
fn a_long_session_has_a_bounded_trace() {
    let (tracer, _spans) = Tracer::new(settings(1.0));
    let trace = tracer.begin("a", &parent("01")).unwrap();
    let now = std::time::Instant::now();
    for _ in 0..3000 {
        trace.saw(Passage {
            what: Spent::Stage(Stage::Infer),
            began: now,
            ended: now,
            n_frames: 1,
        });
    }
    assert_eq!(tracer.figures().dropped.get(), 0, "1000 of them fit");
}

/// The one who waits for the last spans does not wait for a collector that is not there.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_collector() {
    let (tracer, spans) = Tracer::new(settings(1.0));
    tracer.begin("a", &HeaderMap::new()).unwrap().end(&ENDING);
    let exporting = tokio::spawn(keep_exporting(spans));
    tracer.flush(Duration::from_secs(60)).await;
    let figures = tracer.figures();
    assert_eq!((figures.exported.get(), figures.failed.get()), (0, 1));
    exporting.abort();
}
