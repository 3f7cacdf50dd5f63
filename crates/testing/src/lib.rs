//! Fake networks for tests and benchmarks.
//!
//! All of them stand behind the engine's traits, so whatever runs real networks runs these:
//! [`FakeGenerator`] does what a closure says, [`SteeredGenerator`] is held and steered run by run, and
//! [`GatedLoader`] holds the networks of another loader at a [`Gate`]. [`FakeLoader`], [`FileLoader`] and
//! [`LoaderOf`] make them from files. Nothing that ships may link this crate: it is a dependency of tests alone.
#![forbid(unsafe_code)]

mod encoder;
mod file_loader;
mod gate;
mod gated;
mod generator;
mod grey;
mod steered;

pub use encoder::FakeEncoder;
pub use file_loader::{FileLoader, Live, WEIGHTS};
pub use gate::{Gate, HeldGate};
pub use gated::GatedLoader;
pub use generator::{FakeGenerator, LoaderOf};
pub use grey::{FAULT, FakeLoader, LOST, NO_MEMORY, PANIC, grey};
pub use steered::{Act, Call, Calls, FAILS, PANICS, SteeredGenerator, UNLUCKY, audio, crop, faces};
