//! Pages that take a while to write, and that anybody may ask for at any rate.
//!
//! One is written at a time. All who asked before it was begun get the same, so what they get is never older than
//! their question, and a thousand who ask at once cost as much as one. Between two of them is a rest, so that whoever
//! asks without end has a fifth of one core at most.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep_until},
};

/// A rest lasts this many times as long as the page took.
const REST: u32 = 4;
/// The longest rest: a page that takes long on a busy machine need not wait for long.
const MAX_REST: Duration = Duration::from_millis(500);

/// One page. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    /// When it was begun, and what it is.
    page: Option<(Instant, Bytes)>,
    /// The next one begins no sooner.
    rests_until: Option<Instant>,
}

impl Rounds {
    /// The page as it is now, or at a later moment before the answer. `write` may block.
    ///
    /// # Errors
    /// `write` has panicked.
    pub(super) async fn page(
        &self,
        write: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Result<Bytes, JoinError> {
        let asked = Instant::now();
        // Those that wait are as many as connections.
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some((begun, page)) = &last.page
            && *begun > asked
        {
            return Ok(page.clone());
        }
        if let Some(until) = last.rests_until {
            sleep_until(until).await;
        }
        // Whoever asked may leave: the next one is not begun before this one is done all the same.
        let writing = tokio::spawn(async move {
            let begun = Instant::now();
            let clock = std::time::Instant::now();
            let page = Bytes::from(spawn_blocking(write).await?);
            let rest = (clock.elapsed() * REST).min(MAX_REST);
            last.rests_until = Some(Instant::now() + rest);
            last.page = Some((begun, page.clone()));
            Ok::<_, JoinError>(page)
        });
        writing.await?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_meanwhile_shares_the_next_one() {
        let (rounds, n_written) = (Rounds::default(), Arc::new(AtomicUsize::new(0)));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let ask = || {
            let (rounds, n_written, wait) = (rounds.clone(), n_written.clone(), wait.clone());
            tokio::spawn(async move {
                let write = move || {
                    wait.lock().unwrap().recv().unwrap();
                    let n = n_written.fetch_add(1, Ordering::SeqCst);
                    vec![u8::try_from(n).unwrap()]
                };
                rounds.page(write).await.unwrap()
            })
        };
        let first = ask();
        while rounds.0.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..50).map(|_| ask()).collect();
        // Each has asked when it has been polled once.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap()[..], [0]);
        for other in others {
            assert_eq!(other.await.unwrap()[..], [1], "newer than the question");
        }
        assert_eq!(n_written.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn who_leaves_takes_the_turn_of_nobody() {
        let rounds = Rounds::default();
        let (go, wait) = mpsc::channel::<()>();
        let (begins, begun) = tokio::sync::oneshot::channel();
        let asking = rounds.page(move || {
            begins.send(()).unwrap();
            wait.recv().unwrap();
            vec![1]
        });
        let mut asking = Box::pin(asking);
        assert!(asking.as_mut().now_or_never().is_none());
        drop(asking);
        begun.await.unwrap();
        let mut next = Box::pin(rounds.page(|| vec![2]));
        assert!(next.as_mut().now_or_never().is_none());
        go.send(()).unwrap();
        assert_eq!(next.await.unwrap()[..], [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_the_other_there_is_a_rest() {
        let rounds = Rounds::default();
        let write = || {
            std::thread::sleep(Duration::from_millis(2));
            Vec::new()
        };
        rounds.page(write).await.unwrap();
        let until = rounds.0.lock().await.rests_until.unwrap();
        // The clock of this test stands still, and who asks at the same moment gets the same page.
        tokio::time::advance(Duration::from_nanos(1)).await;
        rounds.page(write).await.unwrap();
        assert!(Instant::now() >= until);
    }
}
