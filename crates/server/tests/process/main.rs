//! The binary as a process: exit codes, signals, what it prints.
//!
//! These tests live here and not in the root's `tests/it`, because only a package's own tests build
//! its binary.

mod avatars;
mod call_lines;
mod command_line;
#[cfg(target_os = "linux")]
mod driver;
mod keys;
// It needs a full disk, `/dev/full`.
#[cfg(target_os = "linux")]
mod outputs;
mod server;
mod signals;
mod tune;
mod wrong_port;
