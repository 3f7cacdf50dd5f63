//! A history as bytes, to be kept while no process has it.
//!
//! ```text
//! magic, 8 bytes · version, u32 · figures, u32 · for each its name: length, u8, and UTF-8
//! for each scale: length of a step, s, u64 · steps, u32
//!   for each step, the oldest first: when it began, u64 · means, f32 each · peaks, f32 each
//! CRC-32 of all before it, u32
//! ```
//!
//! All numbers are little endian. Figures are found by name, so that another version of the server, which has others,
//! reads what both have. Steps that are not over are left out.

use std::array;

use crate::{History, SCALES, Step};

const MAGIC: [u8; 8] = *b"lipshist";
const VERSION: u32 = 1;
/// Figures that a file may have; more than any version has.
const MAX_FIGURES: usize = 256;

/// Why bytes are no history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// They begin as something else.
    Foreign,
    /// They were written by another version.
    Version(u32),
    /// They end too early, or were changed.
    Damaged,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no history"),
            Self::Version(found) => write!(f, "expected version {VERSION}, found {found}"),
            Self::Damaged => f.write_str("it is damaged"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl<const N: usize> History<N> {
    /// Bytes that a history of this many figures takes at most, whatever the figures are called.
    #[must_use]
    pub fn max_bytes() -> usize {
        let steps: usize = SCALES.iter().map(|scale| scale.n_steps).sum();
        let names = MAX_FIGURES * (1 + usize::from(u8::MAX));
        // A file of another version may have more figures than this one.
        let of_step = 8 + 2 * 4 * N.max(MAX_FIGURES);
        64 + names + SCALES.len() * 12 + steps * of_step
    }

    /// All steps that are over. `names` are those of the figures, of up to 255 bytes each.
    #[must_use]
    pub fn to_bytes(&self, names: &[&str; N]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(u32_of(N).to_le_bytes());
        for name in names {
            let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend(name);
        }
        for ring in &self.0 {
            bytes.extend(ring.scale.step_s.to_le_bytes());
            bytes.extend(u32_of(ring.steps.len()).to_le_bytes());
            for step in &ring.steps {
                bytes.extend(step.at_s.to_le_bytes());
                let figures = step.means.iter().chain(&step.peaks);
                bytes.extend(figures.flat_map(|figure| figure.to_le_bytes()));
            }
        }
        bytes.extend(crc32(&bytes).to_le_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. Steps that are not over at `now_s` are left out: the clock was
    /// set back. So are figures that there are not any more; those that are new are unknown.
    ///
    /// # Errors
    /// See [`Unreadable`]. Never panics, and never takes more memory than a history.
    pub fn from_bytes(bytes: &[u8], names: &[&str; N], now_s: u64) -> Result<Self, Unreadable> {
        let mut rest = bytes;
        if take(&mut rest) != Some(MAGIC) {
            return Err(Unreadable::Foreign);
        }
        let version = take(&mut rest).map(u32::from_le_bytes);
        match version.ok_or(Unreadable::Damaged)? {
            VERSION => {}
            other => return Err(Unreadable::Version(other)),
        }
        let (summed, sum) = bytes.split_last_chunk::<4>().ok_or(Unreadable::Damaged)?;
        if crc32(summed) != u32::from_le_bytes(*sum) {
            return Err(Unreadable::Damaged);
        }
        let rest = rest.get(..rest.len().saturating_sub(sum.len()));
        let read = rest.and_then(|rest| read(rest, names, now_s));
        read.ok_or(Unreadable::Damaged)
    }
}

/// What is between the version and the sum.
fn read<const N: usize>(mut bytes: &[u8], names: &[&str; N], now_s: u64) -> Option<History<N>> {
    let n_figures = length(&mut bytes).filter(|n| *n <= MAX_FIGURES)?;
    let mut found = Vec::with_capacity(n_figures);
    for _ in 0..n_figures {
        let [n] = take(&mut bytes)?;
        let (name, rest) = bytes.split_at_checked(usize::from(n))?;
        found.push(name);
        bytes = rest;
    }
    // Where each of our figures is among theirs.
    let places = names.map(|name| found.iter().position(|found| *found == name.as_bytes()));
    let mut history = History::default();
    while !bytes.is_empty() {
        let step_s = take(&mut bytes).map(u64::from_le_bytes)?;
        let ring = history.0.iter_mut().find(|r| r.scale.step_s == step_s)?;
        let n_steps = length(&mut bytes).filter(|n| *n <= ring.scale.n_steps)?;
        ring.steps.clear();
        for _ in 0..n_steps {
            let step = step(&mut bytes, n_figures, &places)?;
            let is_next = ring.steps.back().is_none_or(|last| last.at_s < step.at_s);
            if !is_next || !step.at_s.is_multiple_of(step_s) {
                return None;
            }
            if step.at_s.saturating_add(step_s) <= now_s {
                ring.steps.push_back(step);
            }
        }
    }
    Some(history)
}

fn step<const N: usize>(
    bytes: &mut &[u8],
    n_figures: usize,
    places: &[Option<usize>; N],
) -> Option<Step<N>> {
    let at_s = take(bytes).map(u64::from_le_bytes)?;
    let (means, rest) = bytes.split_at_checked(n_figures * 4)?;
    let (peaks, rest) = rest.split_at_checked(n_figures * 4)?;
    *bytes = rest;
    let figure = |figures: &[u8], n: usize| {
        let at = places[n]? * 4;
        let figure = figures.get(at..)?.first_chunk::<4>()?;
        Some(f32::from_le_bytes(*figure))
    };
    Some(Step {
        at_s,
        means: array::from_fn(|n| figure(means, n).unwrap_or(f32::NAN)),
        peaks: array::from_fn(|n| figure(peaks, n).unwrap_or(f32::NAN)),
    })
}

fn take<const L: usize>(bytes: &mut &[u8]) -> Option<[u8; L]> {
    let (first, rest) = bytes.split_first_chunk::<L>()?;
    *bytes = rest;
    Some(*first)
}

fn length(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()
}

fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The sum of IEEE 802.3, bit by bit: a megabyte a minute needs no table.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let is_odd = sum & 1 == 1;
            sum = (sum >> 1) ^ if is_odd { 0xedb8_8320 } else { 0 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(seconds: u64) -> History<2> {
        let mut history = History::default();
        for second in 0..seconds {
            let figure = if second % 7 == 0 { 5.0 } else { 1.0 };
            history.note(9_000 + second, [figure, f32::NAN]);
        }
        history
    }

    /// In words, because what is not a number equals nothing.
    fn words<const N: usize>(history: &History<N>) -> Vec<String> {
        let scales = SCALES.iter();
        let of_scale = |scale: &crate::Scale| {
            let steps = history.steps(scale.name).collect::<Vec<_>>();
            format!("{steps:?}")
        };
        scales.map(of_scale).collect()
    }

    #[test]
    fn the_sum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn what_is_written_is_read() {
        let before = history(900);
        let bytes = before.to_bytes(&["a", "b"]);
        assert!(bytes.len() <= History::<2>::max_bytes());
        let after = History::from_bytes(&bytes, &["a", "b"], 9_900).unwrap();
        assert_eq!(words(&before), words(&after));
        // It goes on where it was, with a gap.
        let mut after = after;
        after.note(20_000, [1.0; 2]);
        after.note(20_001, [1.0; 2]);
        let last: Vec<_> = after.steps("1s").map(|step| step.at_s).collect();
        assert_eq!(last[last.len() - 2..], [9_898, 20_000]);
    }

    #[test]
    fn another_version_reads_the_figures_that_both_have() {
        let bytes = history(20).to_bytes(&["a", "b"]);
        let other = History::from_bytes(&bytes, &["new", "a", "newer"], 10_000).unwrap();
        let step = other.steps("1s").next().unwrap();
        assert!(step.means[0].is_nan() && step.means[2].is_nan());
        assert_eq!((step.means[1], step.peaks[1]), (5.0, 5.0));
    }

    #[test]
    fn what_a_clock_has_not_reached_is_left_out() {
        let bytes = history(100).to_bytes(&["a", "b"]);
        let mut back = History::<2>::from_bytes(&bytes, &["a", "b"], 9_050).unwrap();
        let last = |history: &History<2>| history.steps("1s").last().unwrap().at_s;
        assert_eq!(last(&back), 9_049);
        for now in 9_040..9_060 {
            back.note(now, [1.0; 2]);
        }
        let seconds: Vec<_> = back.steps("1s").map(|step| step.at_s).collect();
        assert!(seconds.is_sorted_by(|a, b| a < b), "{seconds:?}");
        assert_eq!(last(&back), 9_058);
    }

    #[test]
    fn what_is_no_history_is_said() {
        let read = |bytes: &[u8]| History::<2>::from_bytes(bytes, &["a", "b"], 10_000).err();
        let good = history(20).to_bytes(&["a", "b"]);
        assert_eq!(read(&good), None);
        assert_eq!(read(b""), Some(Unreadable::Foreign));
        assert_eq!(read(b"<html></html>"), Some(Unreadable::Foreign));
        let mut newer = good.clone();
        newer[8] = 2;
        assert_eq!(read(&newer), Some(Unreadable::Version(2)));
        assert_eq!(read(&good[..good.len() - 1]), Some(Unreadable::Damaged));
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_a_history_or_none(
            at in 0_usize..2000, byte: u8, end in 0_usize..3000, mends: bool,
        ) {
            let mut bytes = history(20).to_bytes(&["a", "b"]);
            let length = bytes.len();
            if let Some(changed) = bytes.get_mut(at % length) {
                *changed = byte;
            }
            bytes.truncate(end);
            // With a good sum, too, as of a file that somebody made.
            if mends && let Some(body) = bytes.len().checked_sub(4) {
                let sum = crc32(&bytes[..body]);
                bytes[body..].copy_from_slice(&sum.to_le_bytes());
            }
            let read = History::<2>::from_bytes(&bytes, &["a", "b"], u64::MAX);
            if let Ok(read) = read {
                prop_assert!(read.n_bytes() <= History::<2>::default().n_bytes());
            }
        }
    }
}
