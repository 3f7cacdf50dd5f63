//! The search for the largest load that still meets its goals: doubling, then bisection.

use std::future::Future;

/// Finds the most users, up to `limit`, for which `passes` is true; 0 if it is false for one user.
///
/// It starts with `first` users and doubles until the first failure, then halves the gap until it is at most 5 % of
/// the answer. It assumes that `passes` is monotone. If noise breaks that, the answer is still a count that passed.
///
/// # Errors
/// The first error of `passes`.
pub async fn find_max_users<E, F>(
    first: u64,
    limit: u64,
    mut passes: impl FnMut(u64) -> F,
) -> Result<u64, E>
where
    F: Future<Output = Result<bool, E>>,
{
    let (mut good, mut next) = (0, first.clamp(1, limit));
    let mut bad = loop {
        if !passes(next).await? {
            break next;
        }
        good = next;
        if good == limit {
            return Ok(good);
        }
        next = good.saturating_mul(2).min(limit);
    };
    while bad - good > (good / 20).max(1) {
        let middle = good + (bad - good) / 2;
        if passes(middle).await? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn search(first: u64, capacity: u64, limit: u64) -> (u64, usize) {
        let mut n_probes = 0;
        let found = find_max_users(first, limit, |users| {
            n_probes += 1;
            async move { Ok::<_, Infallible>(users <= capacity) }
        })
        .await;
        (found.unwrap_or_else(|never| match never {}), n_probes)
    }

    #[tokio::test]
    async fn finds_the_capacity_within_five_percent() {
        for capacity in (0..20).chain([99, 100, 1_000, 4_095, 99_999]) {
            for first in [1, 7, 64, 1_000_000] {
                let (found, n_probes) = search(first, capacity, 100_000).await;
                assert!(found <= capacity, "{found} of {capacity}");
                assert!(capacity - found <= found / 20, "{found} of {capacity}");
                assert!(n_probes < 30);
            }
        }
    }

    #[tokio::test]
    async fn stops_at_the_limit() {
        assert_eq!(search(1, u64::MAX, 100).await, (100, 8));
    }
}
