//! Which known word somebody may have meant.

/// The known word that is nearest to `word`, if one is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Similar from the beginning on, as `workers` and `worker_count` are.
    const MIN_SIMILARITY: f64 = 0.87;
    let word = plain(word);
    if word.is_empty() {
        return None;
    }
    let rated = known.into_iter().map(|candidate| {
        let other = plain(candidate);
        let distance = strsim::osa_distance(&word, &other);
        let is_near = distance <= (other.len() / 4).max(1)
            || strsim::jaro_winkler(&word, &other) >= MIN_SIMILARITY;
        (candidate, distance, is_near)
    });
    rated
        .filter(|&(candidate, distance, is_near)| is_near && distance < candidate.len())
        .min_by_key(|&(_, distance, _)| distance)
        .map(|(candidate, ..)| candidate)
}

/// The known word that differs from `word` by two slips at most.
pub(super) fn almost<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MAX_SLIPS: usize = 2;
    let word = plain(word);
    let rated = known.into_iter().map(|candidate| {
        let distance = strsim::osa_distance(&word, &plain(candidate));
        (candidate, distance)
    });
    rated
        .filter(|&(candidate, distance)| distance <= MAX_SLIPS && distance < candidate.len() / 2)
        .min_by_key(|&(_, distance)| distance)
        .map(|(candidate, _)| candidate)
}

/// Dashes, capitals and underscores are no difference worth counting.
fn plain(word: &str) -> String {
    // A longer word is near to none of ours, and comparing takes the square of its length.
    const MAX_CHARS: usize = 100;
    word.chars()
        .take(MAX_CHARS)
        .filter(|c| !matches!(c, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let keys = [
            "port",
            "worker_count",
            "queue_size",
            "idle_timeout_s",
            "fps",
        ];
        for (word, meant) in [
            ("prot", Some("port")),
            ("Port", Some("port")),
            ("worker-count", Some("worker_count")),
            ("workerCount", Some("worker_count")),
            ("workers", Some("worker_count")),
            ("queue_sise", Some("queue_size")),
            ("idle_timeout", Some("idle_timeout_s")),
            ("fsp", Some("fps")),
            ("host", None),
            ("a", None),
            ("", None),
            ("-", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"port".repeat(1_000_000), keys), None);
    }
}
