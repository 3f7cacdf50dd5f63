//! The batch sizes that launches are prepared for.

/// Frames of the batches that there are launches for. A batch in between runs as the next larger one.
pub const BUCKETS: [usize; 8] = [1, 2, 4, 8, 16, 25, 32, 64];

/// The bucket that a batch of `n_frames` runs in; more frames than the largest run in several batches.
#[must_use]
pub fn bucket_of(n_frames: usize) -> usize {
    let fits = BUCKETS.into_iter().find(|&bucket| n_frames <= bucket);
    fits.unwrap_or(BUCKETS[BUCKETS.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_runs_in_the_smallest_bucket_that_holds_it() {
        let sizes = [0, 1, 2, 3, 9, 17, 25, 26, 33, 64, 65, 1000];
        let expected = [1, 1, 2, 4, 16, 25, 25, 32, 64, 64, 64, 64];
        assert_eq!(sizes.map(bucket_of), expected);
    }
}
