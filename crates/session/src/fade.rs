//! How strong the network's face is in a frame, in the cross-fade with the face of the background.
//!
//! The mouth of a background frame need not be shut the way the network shuts it. Where a session turns
//! from one to the other, a few frames show both.

/// The weight of a face that is the network's alone. Others are that many parts of it.
pub const FULL: u8 = 4;

/// The weight of the network's face in the frame after one with `weight`.
pub(super) fn follow(weight: u8, speaks: bool) -> u8 {
    if speaks {
        (weight + 1).min(FULL)
    } else {
        weight.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_ramp_both_ways() {
        let up: Vec<u8> = (0..6)
            .scan(0, |w, _| {
                *w = follow(*w, true);
                Some(*w)
            })
            .collect();
        assert_eq!(up, [1, 2, 3, 4, 4, 4]);
        let down: Vec<u8> = (0..6)
            .scan(FULL, |w, _| {
                *w = follow(*w, false);
                Some(*w)
            })
            .collect();
        assert_eq!(down, [3, 2, 1, 0, 0, 0]);
    }
}
