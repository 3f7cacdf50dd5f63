//! Tests of what is kept and for whom.

use super::*;

const MANY: usize = 64 << 20;
const SIZE: usize = (3 << 20) + 4321;

#[test]
fn a_block_is_used_again_and_shows_nothing_of_what_was_in_it() {
    let spare = Spare::new();
    let block = vec![7; SIZE];
    let address = block.as_ptr();
    spare.give(block, MANY);
    let again = spare.take(SIZE - 1);
    assert_eq!((again.as_ptr(), again.len()), (address, 0));
    // It is somebody's now.
    let other = spare.take(SIZE - 1);
    assert_ne!(other.as_ptr(), again.as_ptr());
}

#[test]
fn a_small_picture_gets_no_large_block() {
    let spare = Spare::new();
    spare.give(Vec::with_capacity(2 * SIZE + 1), MANY);
    assert_eq!(spare.take(SIZE).capacity(), SIZE);
    assert_eq!(spare.take(SIZE + 1).capacity(), 2 * SIZE + 1);
}

#[test]
fn no_more_is_kept_than_is_allowed_and_small_blocks_are_not() {
    let spare = Spare::new();
    let n_kept = || lock(&spare.blocks).len();
    for _ in 0..5 {
        spare.give(Vec::with_capacity(SIZE), 3 * SIZE + 1);
    }
    assert_eq!(n_kept(), 3);
    spare.release();
    assert_eq!(n_kept(), 0);
    spare.give(Vec::with_capacity(MIN_BYTES - 1), MANY);
    assert_eq!(n_kept(), 0);
}

#[test]
fn zeros_are_zeros_whatever_was_there() {
    for _ in 0..4 {
        let mut block = zeros(SIZE);
        assert!(block.len() == SIZE && block.iter().all(|&byte| byte == 0));
        block.fill(9);
        drop(PictureBytes::from(block));
    }
}
