//! How old a connection may get: clients that keep one for ever never meet a new server behind a load balancer.

use tokio::time::sleep;

use crate::config::MaxAge;

/// Returns when a connection that begins now is too old: up to a tenth sooner or later than said, so that those that came
/// together do not come back together. Never without a limit.
pub(super) async fn over(age: MaxAge) {
    let Some(after) = age.after else {
        return std::future::pending().await;
    };
    let mut dice = [0];
    // Without chance it is as good, where only a few come together.
    let _ = getrandom::getrandom(&mut dice);
    sleep(after.mul_f64(0.9 + f64::from(dice[0]) / 255.0 * 0.2)).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_that_begin_together_do_not_end_together() {
        let age = MaxAge {
            after: Some(Duration::from_secs(1000)),
            grace: None,
        };
        let begun = Instant::now();
        let ends = (0..50).map(|_| async {
            over(age).await;
            begun.elapsed().as_secs()
        });
        let mut ends = futures_util::future::join_all(ends).await;
        ends.sort_unstable();
        assert!(ends[0] >= 900 && ends[49] <= 1100, "{ends:?}");
        ends.dedup();
        assert!(ends.len() > 10, "{ends:?}");
    }
}
