//! Tells the program its version.

include!("../../build/commit.rs");

fn main() {
    tell_version();
}
