//! What a unary answer tells a load balancer of this server: an `xds.data.orca.v3.OrcaLoadReport` in the trailer
//! `endpoint-load-metrics-bin`, as gRPC's and Envoy's balancers read it (gRFC A51).

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use http::HeaderMap;
use lipsync_core::{
    saturate::{u32_of, u64_of},
    sync::lock,
};
use prost::Message as _;
use tokio::time::Instant;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::headers::Load;

/// The trailer.
const TRAILER: &str = "endpoint-load-metrics-bin";
/// Answers are counted for so long before their rate is told.
const WINDOW: Duration = Duration::from_secs(1);

/// The message, as far as we fill it in. Its file is `xds/data/orca/v3/orca_load_report.proto` of cncf/xds.
#[derive(Clone, PartialEq, prost::Message)]
struct OrcaLoadReport {
    /// Answers a second.
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(btree_map = "string, double", tag = "8")]
    named_metrics: BTreeMap<String, f64>,
    /// The share of their time in which workers, or the busiest GPU, are busy: 0 to 1.
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

/// What is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// How busy the server is.
    pub(crate) load: Load,
    /// How long this call waited for a worker.
    pub(crate) queue_wait: Duration,
    /// Sessions that could be opened now.
    pub(crate) free_sessions: usize,
}

/// The trailer of one answer; an extension of its response.
#[derive(Debug, Clone)]
pub(crate) struct LoadReport(HeaderMap);

/// How many answers with a report there were a second.
#[derive(Debug)]
pub struct AnswerRate(Mutex<Window>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    n_answers: u32,
    /// Of the window before.
    per_s: f64,
}

impl Default for AnswerRate {
    fn default() -> Self {
        Self(Mutex::new(Window {
            begun: Instant::now(),
            n_answers: 0,
            per_s: 0.0,
        }))
    }
}

impl AnswerRate {
    /// Counts one, and gives the rate of the last window that is over.
    fn count(&self) -> f64 {
        let mut window = lock(&self.0);
        let elapsed = window.begun.elapsed();
        if elapsed >= WINDOW {
            *window = Window {
                begun: Instant::now(),
                n_answers: 0,
                per_s: f64::from(window.n_answers) / elapsed.as_secs_f64(),
            };
        }
        window.n_answers = window.n_answers.saturating_add(1);
        window.per_s
    }
}

impl LoadReport {
    /// The report of an answer, which counts in `rate`.
    pub(crate) fn new(told: &Told, rate: &AnswerRate) -> Self {
        let (Load::Gpu(percent) | Load::Workers(percent)) = told.load;
        let wait_ms = told.queue_wait.as_secs_f64() * 1e3;
        let free = f64::from(u32_of(u64_of(told.free_sessions)));
        let named = [("queue_wait_ms", wait_ms), ("free_sessions", free)];
        let report = OrcaLoadReport {
            rps_fractional: rate.count(),
            named_metrics: named.map(|(name, value)| (name.to_owned(), value)).into(),
            application_utilization: f64::from(percent) / 100.0,
        };
        let mut metadata = MetadataMap::new();
        let bytes = MetadataValue::from_bytes(&report.encode_to_vec());
        metadata.insert_bin(TRAILER, bytes);
        Self(metadata.into_headers())
    }

    /// Adds it to the trailers of its answer.
    pub(crate) fn add_to(self, trailers: &mut HeaderMap) {
        trailers.extend(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_report_is_the_message_that_balancers_read() {
        let rate = AnswerRate::default();
        for _ in 0..10 {
            rate.count();
        }
        tokio::time::advance(2 * WINDOW).await;
        let told = Told {
            load: Load::Workers(75),
            queue_wait: Duration::from_micros(1_500),
            free_sessions: 3,
        };
        let mut trailers = HeaderMap::new();
        LoadReport::new(&told, &rate).add_to(&mut trailers);
        let trailers = MetadataMap::from_headers(trailers);
        let bytes = trailers.get_bin(TRAILER).unwrap().to_bytes().unwrap();
        // By hand, from the field numbers of the proto file: 6 = 5.0, then the map 8, then 9 = 0.75.
        let mut expected = vec![0x31];
        expected.extend(5.0f64.to_le_bytes());
        for (name, value) in [("free_sessions", 3.0f64), ("queue_wait_ms", 1.5)] {
            expected.extend([0x42, 24, 0x0a, 13]);
            expected.extend(name.as_bytes());
            expected.push(0x11);
            expected.extend(value.to_le_bytes());
        }
        expected.push(0x49);
        expected.extend(0.75f64.to_le_bytes());
        assert_eq!(bytes.as_ref(), expected);
    }
}
