//! The C library's heap: how much freed memory goes back to the system.
//!
//! It has nothing to do with networks. It is here because this is the only crate that may call foreign functions.
//!
//! glibc opens up to eight arenas a core, and a freed block returns to the arena it came from. Large buffers that
//! many threads allocate and free leave holes in all of them, which stay with the process even when all models are
//! unloaded. Few arenas, a fixed threshold for `mmap` and a trim now and then give them back.
//! `tools/bench/memory.py` measures it. Other C libraries keep their defaults.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "mallopt and malloc_trim are foreign functions")
)]

/// What an operator sets to tune the heap himself.
const TUNABLES: [&str; 4] = [
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
];

/// Sets the heap up: call it first thing in `main`, since threads keep the arena they have found. It leaves the heap
/// alone where the environment tunes it. Says whether the settings were taken.
#[must_use]
pub fn configure() -> bool {
    if TUNABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return false;
    }
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    glibc::configure(n_cores)
}

/// Gives free pages back to the system. Says whether there were any.
///
/// It locks one arena after the other, for about a millisecond in all (8 at most were seen), so keep it off the
/// threads that must not wait.
pub fn give_back() -> bool {
    glibc::give_back()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    /// Arenas: one a core, but no more than this. Threads that meet in one arena wait for each other, each further
    /// arena has holes of its own.
    const MOST_ARENAS: usize = 8;
    /// From this size on, bytes, a block is a mapping of its own, and goes back when it is freed. Fixed, since the
    /// threshold otherwise grows with each such block that is freed. For smaller blocks the page faults of a new
    /// mapping cost more than the memory is worth.
    const MMAP_THRESHOLD: c_int = 1 << 20;
    /// Free bytes at the end of an arena from which on they go back at once; what is below goes back within 10 s. More
    /// than the faces of a batch, 4 to 5 MB of 16 frames: page faults on their way back were 7 % of a frame without its
    /// network.
    const TRIM_THRESHOLD: c_int = 8 << 20;

    pub(super) fn configure(n_cores: usize) -> bool {
        let arenas = c_int::try_from(n_cores.clamp(2, MOST_ARENAS)).unwrap_or(2);
        [
            (libc::M_ARENA_MAX, arenas),
            (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD),
            (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD),
        ]
        .into_iter()
        .all(|(parameter, value)| {
            // SAFETY: glibc's `mallopt` takes any two numbers, from any thread; it returns 0 for those it refuses.
            let taken = unsafe { libc::mallopt(parameter, value) };
            taken == 1
        })
    }

    pub(super) fn give_back() -> bool {
        // SAFETY: `malloc_trim` takes the heap's locks itself, and only touches pages without a live block.
        let released = unsafe { libc::malloc_trim(0) };
        released == 1
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn configure(_n_cores: usize) -> bool {
        false
    }

    pub(super) fn give_back() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    #[test]
    fn the_settings_are_taken() {
        assert!(super::glibc::configure(1));
        assert!(super::glibc::configure(64));
    }
}
