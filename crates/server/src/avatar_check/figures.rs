//! Small sums over frames.

/// Pearson's correlation; 0 where one of the two never changes.
#[must_use]
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = f64_of(a.len().min(b.len()).max(1));
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa * bb > 0.0 {
        ab / (aa * bb).sqrt()
    } else {
        0.0
    }
}

/// The value below which a share of sorted values lies.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of an index"
    )]
    let index = (f64_of(last) * share).round() as usize;
    sorted.get(index.min(last)).copied().unwrap_or(0.0)
}

/// A count as a number.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of frames and squares")]
pub fn f64_of(n: usize) -> f64 {
    n as f64
}
