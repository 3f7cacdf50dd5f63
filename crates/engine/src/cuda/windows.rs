//! Where the audio windows of a batch are in what goes up to the device.
//!
//! A window is some feature steps, and the next frame's window is one step further on. So of frames in a row each step
//! goes up once, not once for every window that has it: AVE's windows are 16 steps. Where each frame's window begins is
//! in a table, which goes up before them.

use lipsync_core::{
    family::{Family, WindowSource},
    saturate::u32_of,
};

use super::{bucket::BUCKETS, program::Program};
use crate::graph::Shape;

/// Bytes of the table: where each frame's window begins, in floats from the table's end on.
pub(super) const AUDIO_TABLE_BYTES: usize = BUCKETS[BUCKETS.len() - 1] * size_of::<u32>();

/// Bytes of the table and of `n_frames` windows that share nothing.
pub(super) fn audio_bytes(window: Shape, n_frames: usize) -> usize {
    AUDIO_TABLE_BYTES + window.len() * n_frames * size_of::<f32>()
}

/// Floats of the steps that windows of this shape are made of; `None` where they are not made of steps.
pub(super) fn step_floats(window: Shape) -> Option<usize> {
    let kind = Family::kind_of_window([window.c, window.h, window.w])?;
    match Family::form_of(kind).source {
        WindowSource::Steps(step) => Some(step.n_floats),
        _ => None,
    }
}

/// The windows of a batch, as they go up.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// For each frame: where its window begins, and how many floats at the window's end no window before it has.
    places: Vec<(usize, usize)>,
    n_floats: usize,
}

impl Windows {
    /// Finds what windows share with the one before. What goes up always ends where the last window so far ends.
    pub fn of<'a>(step: Option<usize>, windows: impl Iterator<Item = &'a [f32]>) -> Self {
        let mut found = Self::default();
        let mut last: Option<&[f32]> = None;
        for window in windows {
            let n_new = last.map_or(window.len(), |last| n_new(step, last, window));
            found.n_floats += n_new;
            found.places.push((found.n_floats - window.len(), n_new));
            last = Some(window);
        }
        found
    }

    /// Those of so many frames in a row.
    pub fn in_a_row(program: &Program, n_frames: usize) -> Self {
        let len = program.audio.len();
        let step = program.step_floats.unwrap_or(len);
        let place = |frame: usize| (frame * step, if frame == 0 { len } else { step });
        let places: Vec<_> = (0..n_frames).map(place).collect();
        Self {
            n_floats: places.iter().map(|(_, n_new)| n_new).sum(),
            places,
        }
    }

    /// Bytes that go up.
    pub fn n_bytes(&self) -> usize {
        AUDIO_TABLE_BYTES + self.n_floats * size_of::<f32>()
    }

    /// Writes the table and the floats. The table ends in zeros: whatever frames of nobody hear, they hear it.
    pub fn fill<'a>(&self, windows: impl Iterator<Item = &'a [f32]>, staging: &mut [u8]) {
        let (table, mut floats) = staging.split_at_mut(AUDIO_TABLE_BYTES);
        table.fill(0);
        let starts = table.chunks_exact_mut(size_of::<u32>());
        for ((place, &(start, n_new)), window) in starts.zip(&self.places).zip(windows) {
            place.copy_from_slice(&u32_of(start).to_ne_bytes());
            let new = &window[window.len() - n_new..];
            let (to, rest) = floats.split_at_mut(size_of_val(new));
            for (to, x) in to.chunks_exact_mut(size_of::<f32>()).zip(new) {
                to.copy_from_slice(&x.to_ne_bytes());
            }
            floats = rest;
        }
    }
}

/// Floats at the end of a window that the one before it does not have where this one needs them.
fn n_new(step: Option<usize>, last: &[f32], window: &[f32]) -> usize {
    if are_same(last, window) {
        return 0;
    }
    let step = step.filter(|&step| step < window.len());
    let is_next = |step: &usize| are_same(&last[*step..], &window[..window.len() - *step]);
    step.filter(is_next).unwrap_or(window.len())
}

/// Whether they are equal bit for bit: -0 is not 0 to a network.
fn are_same(a: &[f32], b: &[f32]) -> bool {
    /// So many at a time: a loop that may end at every one is not made of vectors.
    const N: usize = 64;
    let differ = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b);
        pairs.fold(0, |bits, (a, b)| bits | (a.to_bits() ^ b.to_bits())) != 0
    };
    a.len() == b.len() && !a.chunks(N).zip(b.chunks(N)).any(|(a, b)| differ(a, b))
}

#[cfg(test)]
mod tests {
    use lipsync_core::SplitMix64;

    use super::*;

    const STEP: usize = 80;
    const WINDOW: usize = 4 * STEP;

    /// What a kernel finds for each frame.
    fn seen(windows: &[&[f32]], step: Option<usize>) -> (Vec<Vec<f32>>, usize) {
        let found = Windows::of(step, windows.iter().copied());
        let mut staging = vec![0xff; found.n_bytes()];
        found.fill(windows.iter().copied(), &mut staging);
        let words: Vec<u32> = staging
            .chunks_exact(4)
            .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let (table, floats) = words.split_at(AUDIO_TABLE_BYTES / 4);
        assert!(table[windows.len()..].iter().all(|&start| start == 0));
        let at = |(&start, window): (&u32, &&[f32])| {
            let window = &floats[start as usize..][..window.len()];
            window.iter().map(|&bits| f32::from_bits(bits)).collect()
        };
        let each = table.iter().zip(windows).map(at).collect();
        (each, floats.len())
    }

    fn rows(seed: u64, n: usize) -> Vec<f32> {
        SplitMix64::new(seed).floats(n * STEP, -1.0, 1.0)
    }

    #[test]
    fn of_frames_in_a_row_every_step_goes_up_once() {
        let rows = rows(1, 19);
        let windows: Vec<&[f32]> = (0..16).map(|i| &rows[i * STEP..][..WINDOW]).collect();
        let (each, n_floats) = seen(&windows, Some(STEP));
        assert_eq!(each, windows);
        assert_eq!(n_floats, rows.len());
        // Whoever knows no steps sends all of them.
        let (each, n_floats) = seen(&windows, None);
        assert_eq!(each, windows);
        assert_eq!(n_floats, 16 * WINDOW);
    }

    #[test]
    fn what_is_no_next_window_goes_up_whole() {
        let [first, second] = [rows(1, 8), rows(2, 8)];
        let at = |rows: &'_ [f32], i: usize| rows[i * STEP..][..WINDOW].to_vec();
        // Two calls, one of them with a gap and a repeated frame, and a window that is off in its last shared float.
        let mut off = at(&second, 3);
        off[WINDOW - STEP - 1] += 0.5;
        let windows = [
            at(&first, 0),
            at(&first, 1),
            at(&first, 3),
            at(&first, 3),
            at(&second, 1),
            at(&second, 2),
            off,
        ];
        let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
        let (each, n_floats) = seen(&windows, Some(STEP));
        assert_eq!(each, windows);
        assert_eq!(n_floats, 4 * WINDOW + 2 * STEP);
    }

    #[test]
    fn zeros_of_another_sign_are_other_floats() {
        let (plus, minus) = ([0.0; WINDOW], [-0.0; WINDOW]);
        let (each, n_floats) = seen(&[&plus, &minus], Some(STEP));
        assert_eq!(n_floats, 2 * WINDOW);
        assert!(each[1].iter().all(|x| x.is_sign_negative()));
    }

    #[test]
    fn the_steps_of_a_window_are_known_by_its_shape() {
        let shape = |[c, h, w]: [usize; 3]| step_floats(Shape { c, h, w });
        assert_eq!(shape([32, 16, 16]), Some(512));
        assert_eq!(shape([32, 32, 32]), Some(2048));
        // A patch of an audio encoder, and windows of mel rows.
        assert_eq!(shape([1, 80, 16]), None);
    }
}
