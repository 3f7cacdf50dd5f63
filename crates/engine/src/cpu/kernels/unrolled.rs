//! Loops over the rows of a tile, written out.

/// The body for each `r < R`, written out: LLVM does not unroll a dozen times what is long, and
/// indexes that are no constants would keep the sums out of the registers.
macro_rules! unrolled {
    ($r:ident < $n:ident, $body:block) => {
        unrolled!(@ $r, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11);
    };
    (@ $r:ident, $n:ident, $body:block, $($i:literal)*) => {
        $(if $i < $n {
            let $r: usize = $i;
            $body
        })*
    };
}
pub(super) use unrolled;
