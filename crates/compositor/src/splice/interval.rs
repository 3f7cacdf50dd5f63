//! How far apart restart markers are.

use lipsync_core::PixelRect;

use super::MCU_PX;

/// Intervals that cost few bytes and leave little to encode beside a face.
const PREFERRED: [u16; 4] = [4, 5, 8, 10];
/// So many markers, of about 5 bytes each, weigh as much as one MCU more to encode per frame.
///
/// An MCU takes 0.4 us. On a frame of 3600 MCUs the step from an interval of 8 to one of 4 costs 4 % of
/// the bytes, and is worth that if it saves 12 us.
const MARKERS_PER_MCU: u64 = 16;
/// A marker in every MCU or two makes a frame a quarter larger: below this interval it weighs more.
const SHORT: u16 = 4;
const SHORT_WEIGHT: u64 = 8;

/// MCUs along a side, the last one possibly in part.
pub(super) fn n_mcus(side_px: usize) -> usize {
    side_px.div_ceil(MCU_PX)
}

/// The restart interval for frames of one size with faces in these places.
///
/// It is one of 4, 5, 8 and 10 where one of them divides a row of MCUs, otherwise any that does: short
/// ones cost bytes, long ones make more of the frame beside the face be encoded anew.
#[must_use]
pub fn choose_restart_interval(rects: &[PixelRect], width: usize, height: usize) -> u16 {
    let per_row = n_mcus(width);
    let divides = |interval: &u16| per_row.is_multiple_of(usize::from(*interval).max(1));
    let mut candidates: Vec<u16> = PREFERRED.into_iter().filter(divides).collect();
    if candidates.is_empty() {
        let longest = u16::try_from(per_row).unwrap_or(u16::MAX);
        candidates = (1..=longest).filter(divides).collect();
    }
    let cost = |interval: u16| {
        let step = usize::from(interval) * MCU_PX;
        let encoded: u64 = rects
            .iter()
            .map(|rect| {
                let columns = aligned(rect.x, rect.width, step) * usize::from(interval);
                (columns * aligned(rect.y, rect.height, MCU_PX)) as u64
            })
            .sum();
        let n_markers = (per_row * n_mcus(height)) as u64 / u64::from(interval);
        let weight = if interval < SHORT { SHORT_WEIGHT } else { 1 };
        encoded * MARKERS_PER_MCU + weight * n_markers * rects.len() as u64
    };
    // Of equals the last one is taken: fewer markers.
    candidates.reverse();
    candidates
        .into_iter()
        .min_by_key(|&interval| cost(interval))
        .unwrap_or(1)
}

/// Steps that a span touches.
fn aligned(start: usize, length: usize, step: usize) -> usize {
    (start + length).div_ceil(step) - start / step
}
