//! Rows of a tensor that pass through a few places in turn.

use std::ops::Range;

/// Cuts `rows` into parts of `most` rows at most, and where places that follow one another end, row `y` being at
/// `y % places`; gives each part with the place of its first row.
pub(super) fn parts(
    rows: Range<usize>,
    places: usize,
    most: usize,
) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut row = rows.start;
    std::iter::from_fn(move || {
        let place = row % places;
        let end = rows.end.min(row + most.min(places - place));
        let part = (row < end).then_some((row..end, place));
        row = end;
        part
    })
}

/// `rows` at once if they are whole, which makes them one run of memory, otherwise one by one.
pub(super) fn runs(rows: Range<usize>, are_whole: bool) -> impl Iterator<Item = Range<usize>> {
    let step = if are_whole { rows.len().max(1) } else { 1 };
    rows.clone()
        .step_by(step)
        .map(move |row| row..(row + step).min(rows.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another_and_never_pass_the_last_place() {
        let all = |rows, places| parts(rows, places, 3).collect::<Vec<_>>();
        assert_eq!(all(3..3, 4), []);
        assert_eq!(all(0..4, 4), [(0..3, 0), (3..4, 3)]);
        assert_eq!(all(3..5, 4), [(3..4, 3), (4..5, 0)]);
        assert_eq!(all(9..12, 5), [(9..10, 4), (10..12, 0)]);
    }

    #[test]
    fn whole_rows_run_at_once() {
        let all = |rows, are_whole| runs(rows, are_whole).collect::<Vec<_>>();
        assert_eq!(all(3..6, true).first(), Some(&(3..6)));
        assert_eq!(all(3..6, false), [3..4, 4..5, 5..6]);
        assert_eq!(all(3..3, true), []);
    }
}
