//! Words for the person at the terminal.

/// As `eprintln!`, which panics where nobody reads any more (`speak 2>&1 | head -1`).
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
