//! Turns at what is answered at once: figures, lists, health, and the word that there is no such thing.
//!
//! Such a call makes no frame, so that no queue and no worker holds it back. It costs its client a few bytes, and the
//! server some tens of microseconds, many of them in the stack. A hundred of them kept open take all the cores that are
//! free. So each address may ask a thousand at once and a thousand a second; more wait. Health has turns of its own: a
//! probe does not wait for those who ask for figures.

use std::time::Duration;

use lipsync_core::saturate::usize_of;
use lipsync_serving::{
    ServeError,
    peer::Peer,
    starts::{StartRate, Starts, pause},
};

/// A dashboard asks some times a second, whoever counts on figures for its decisions some ten times.
const RATE: StartRate = StartRate {
    per_second: 1000,
    burst: 1000,
};
/// Whoever would have to wait for longer is refused after this time, and not at once: it would only ask again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Turns of all addresses.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    health: Starts,
    others: Starts,
}

impl Turns {
    /// Waits for an address's turn.
    ///
    /// # Errors
    /// [`ServeError::Overloaded`] where too many of it wait.
    pub(crate) async fn wait(&self, peer: Peer, is_health: bool) -> Result<(), ServeError> {
        let starts = if is_health {
            &self.health
        } else {
            &self.others
        };
        let wait = starts.wait(&peer, RATE, PATIENCE);
        pause(wait.unwrap_or(PATIENCE)).await;
        match wait {
            Some(_turn) => Ok(()),
            None => Err(ServeError::Overloaded {
                what: "too many calls a second from this address",
                limit: usize_of(u64::from(RATE.per_second)),
                retry: PATIENCE,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::{FutureExt as _, future::join_all};
    use tokio::time::Instant;

    use super::*;

    fn peer(n: u32) -> Peer {
        Peer::new(Ipv4Addr::from_bits(n).into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_without_end_waits_and_nobody_else_does() {
        let (turns, began) = (Turns::default(), Instant::now());
        let at_once = join_all((0..RATE.burst).map(|_| turns.wait(peer(1), false)));
        let at_once = at_once.now_or_never().expect("none of them waits");
        assert!(at_once.into_iter().all(|turn| turn.is_ok()));
        let mut next = std::pin::pin!(turns.wait(peer(1), false));
        assert!(next.as_mut().now_or_never().is_none());
        for turn in [turns.wait(peer(2), false), turns.wait(peer(1), true)] {
            assert!(matches!(turn.now_or_never(), Some(Ok(()))));
        }
        // As many more as fit into the time, and some that do not.
        let n_more = RATE.per_second * 2 + 100;
        let more = join_all((0..n_more).map(|_| turns.wait(peer(1), false))).await;
        assert!(next.await.is_ok());
        let n_refused = more.iter().filter(|turn| turn.is_err()).count();
        assert!((100..=102).contains(&n_refused), "{n_refused}");
        assert!(began.elapsed() >= PATIENCE - Duration::from_millis(2));
        assert!(began.elapsed() <= PATIENCE + Duration::from_millis(2));
    }
}
