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
    let again = spare.take(SIZE - 1).expect("it was given");
    assert_eq!((again.as_ptr(), again.len()), (address, 0));
    // It is somebody's now.
    assert_eq!(spare.take(SIZE - 1), None);
}

#[test]
fn a_small_picture_gets_no_large_block() {
    let spare = Spare::new();
    spare.give(Vec::with_capacity(SIZE + SIZE / 8 + 1), MANY);
    assert_eq!(spare.take(SIZE), None);
    assert!(spare.take(SIZE + 1).is_some());
}

#[test]
fn the_oldest_go_when_there_are_too_many_and_small_blocks_are_not_kept() {
    let spare = Spare::new();
    let sizes = || {
        lock(&spare.blocks)
            .iter()
            .map(Vec::capacity)
            .collect::<Vec<_>>()
    };
    for more in 0..5 {
        spare.give(Vec::with_capacity(SIZE + more), 3 * SIZE + 20);
    }
    assert_eq!(sizes(), [SIZE + 2, SIZE + 3, SIZE + 4]);
    // More than all that may be kept.
    spare.give(Vec::with_capacity(4 * SIZE), 3 * SIZE);
    assert_eq!(sizes(), [0; 0]);
    spare.give(Vec::with_capacity(MIN_BYTES - 1), MANY);
    assert_eq!(sizes(), [0; 0]);
    spare.give(Vec::with_capacity(SIZE), MANY);
    spare.release();
    assert_eq!(sizes(), [0; 0]);
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
