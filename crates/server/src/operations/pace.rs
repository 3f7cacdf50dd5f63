//! How often one connection is answered, and one address.
//!
//! A page costs who asks for it a line and the server some tens of microseconds, a long one more. A connection that asks
//! faster than anybody needs waits for its answers. That costs nobody else anything, not even a probe from the same
//! address, which has a connection of its own. An address may open many connections, so what is no probe has turns by
//! address as well.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};
use lipsync_core::{saturate::u32_of, sync::lock};
use lipsync_serving::{
    peer::Peer,
    starts::{StartRate, Started, pause},
};
use tokio::time::Instant;

use crate::{request_layer::Turns, transport::Seat};

/// Answers on one connection. A page has thirty files, and looks ahead for some backgrounds.
const RATE: StartRate = StartRate {
    per_second: 100,
    burst: 300,
};
/// So many bytes of an answer count as another one.
const BYTES_OF_ONE: u64 = 64 << 10;
/// What orchestrators ask, from addresses that may be those of all clients: they have no turns by address.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// The pace of one connection.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Started>);

impl Pace {
    /// Waits until the next answer may be made, and counts it.
    pub(super) async fn wait(&self) {
        pause(self.count(1)).await;
    }

    /// Counts a long answer for as many as its bytes are worth.
    pub(super) fn answered(&self, answer: &Response<Body>) {
        let n_bytes = answer.body().size_hint().lower();
        let n_more = u32_of(n_bytes / BYTES_OF_ONE);
        self.count(n_more.min(RATE.burst));
    }

    fn count(&self, n: u32) -> Duration {
        lock(&self.0).count(n, RATE, Instant::now())
    }
}

/// Has an address wait for its turn; `None` where one address stands for many clients.
pub(super) async fn in_turn(
    State(turns): State<Option<Arc<Turns>>>,
    request: Request,
    next: Next,
) -> Response {
    let is_probe = PROBES.contains(&request.uri().path());
    if let Some(turns) = turns.filter(|_| !is_probe) {
        let seat = request.extensions().get::<Seat>();
        let peer = seat.map_or(Peer::UNKNOWN, |seat| seat.peer);
        if let Err(refusal) = turns.wait(peer, false).await {
            let later = [(header::RETRY_AFTER, "2")];
            return (StatusCode::TOO_MANY_REQUESTS, later, format!("{refusal}\n")).into_response();
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{Router, middleware::from_fn_with_state, routing::get};
    use futures_util::{FutureExt as _, future::join_all};
    use tower::ServiceExt as _;

    use super::*;
    use crate::transport::places;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_without_end_waits() {
        let (pace, began) = (Pace::default(), Instant::now());
        for _ in 0..RATE.burst {
            pace.wait().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..RATE.per_second {
            pace.wait().await;
        }
        assert!(began.elapsed().abs_diff(Duration::from_secs(1)) < Duration::from_millis(150));
        // After a rest it has its burst again, and no more.
        tokio::time::advance(Duration::from_secs(60)).await;
        let rested = Instant::now();
        for _ in 0..RATE.burst {
            pace.wait().await;
        }
        assert_eq!(rested.elapsed(), Duration::ZERO);
        pace.wait().await;
        assert!(rested.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn long_answers_count_for_more() {
        let (pace, began) = (Pace::default(), Instant::now());
        let long = usize::try_from(BYTES_OF_ONE * 100).unwrap();
        for _ in 0..5 {
            pace.wait().await;
            pace.answered(&Response::new(Body::from(vec![0; long])));
        }
        assert!(began.elapsed().abs_diff(Duration::from_secs(1)) < Duration::from_millis(150));
        // Nothing is longer than a burst: the next answer comes in a few seconds, however long this one was.
        let asked = Instant::now();
        pace.answered(&Response::new(Body::from(vec![0; long * 10])));
        pace.wait().await;
        assert!(asked.elapsed() < Duration::from_secs(6));
    }

    /// A page and a probe, which take turns as those of the port do.
    fn router() -> Router {
        Router::new()
            .route("/livez", get(async || "alive"))
            .route("/api/models", get(async || "models"))
            .layer(from_fn_with_state(Some(Arc::default()), in_turn))
    }

    fn asks(n: u32, path: &str) -> Request {
        let address = Ipv4Addr::from_bits(n);
        let place = places(1, 100).take(Peer::UNKNOWN, 1).unwrap();
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request
            .extensions_mut()
            .insert(Seat::new(place, (address, 1).into()));
        request
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_many_connections_takes_turns_and_its_probes_do_not() {
        let router = router();
        let ask = |n, path| router.clone().oneshot(asks(n, path));
        let began = Instant::now();
        let answers = join_all((0..4000).map(|_| ask(1, "/api/models"))).await;
        let statuses: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap().status())
            .collect();
        let n_served = statuses.iter().filter(|status| status.is_success()).count();
        assert!((2900..=3100).contains(&n_served), "{n_served}");
        assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
        assert!(began.elapsed() >= Duration::from_millis(1900));
        for (n, path) in [(1, "/livez"), (2, "/api/models")] {
            let answer = ask(n, path).now_or_never().expect("at once").unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
}
