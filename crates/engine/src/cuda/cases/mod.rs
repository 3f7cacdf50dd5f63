//! Launches of every kernel over random shapes, with what its scalar twin makes of them.
//!
//! Whoever executes kernels is checked against these: the emulator in `tools/cuda-kernels`, and a device
//! by `examples/gpu_check`.

mod draw;

use super::{
    driver::{Allocation, Driver, Stream},
    launch::{Kernel, Launch},
    twin::{self, BadAddress, Memory},
};
use crate::EngineError;

pub(crate) use draw::draw;

/// What a piece of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// fp16 numbers, written up to rounding.
    Halves,
    /// Bytes that may be off by one, where a value is near the border of two.
    Bytes,
    /// What is only read, or copied as it is.
    Exact,
    /// Addresses of other pieces.
    Addresses,
}

/// Device memory of a case.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub address: u64,
    pub content: Content,
    pub before: Vec<u8>,
    /// What the twin leaves there.
    pub after: Vec<u8>,
}

/// One launch.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub launch: Launch,
    pub pieces: Vec<Piece>,
}

/// How far an fp16 number may be off: a rounding of one order of sums against another.
const TOLERANCE: f32 = 2e-3;
/// The same for a block, whose four roundings may each be off, one after the other: what is lifted, expanded,
/// convolved and projected. Weights of cases leave values about as large as they are.
const BLOCK_TOLERANCE: f32 = 4.0 * TOLERANCE;

impl Case {
    /// Runs the twin on what `memory` holds.
    fn new(
        launch: Launch,
        mut memory: Memory,
        contents: &[(u64, Content)],
    ) -> Result<Self, BadAddress> {
        let before = memory.allocations().clone();
        twin::run(&launch, &mut memory)?;
        let piece = |&(address, content): &(u64, Content)| Piece {
            address,
            content,
            before: before.get(&address).cloned().unwrap_or_default(),
            after: memory
                .allocations()
                .get(&address)
                .cloned()
                .unwrap_or_default(),
        };
        Ok(Self {
            launch,
            pieces: contents.iter().map(piece).collect(),
        })
    }

    /// The case as a file holds it; the emulator's `main.cpp` says how.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        let mut block = |block: &[u8]| {
            bytes.extend((block.len() as u64).to_le_bytes());
            bytes.extend(block);
        };
        let launch = &self.launch;
        block(launch.kernel.entry().as_bytes());
        let sizes = [launch.blocks, launch.threads, launch.shared_bytes];
        block(&sizes.map(u32::to_le_bytes).concat());
        block(&launch.args.to_bytes());
        block(&(self.pieces.len() as u64).to_le_bytes());
        for piece in &self.pieces {
            block(&piece.address.to_le_bytes());
            block(&[piece.content as u8]);
            block(&piece.before);
            block(&piece.after);
        }
        bytes
    }

    /// Runs the case on a device; what is wrong, if anything.
    pub fn run(&self, driver: &std::sync::Arc<dyn Driver>) -> Result<Option<String>, EngineError> {
        let mut stream = std::sync::Arc::clone(driver).stream()?;
        self.run_on(driver, &mut *stream)
    }

    fn run_on(
        &self,
        driver: &std::sync::Arc<dyn Driver>,
        stream: &mut dyn Stream,
    ) -> Result<Option<String>, EngineError> {
        let mut held = vec![];
        for piece in &self.pieces {
            held.push(Allocation::new(driver, piece.before.len().max(16))?);
        }
        let moved = |address: u64| {
            let of = |(piece, held): (&Piece, &Allocation)| {
                let offset = address.checked_sub(piece.address)?;
                (offset < piece.before.len() as u64).then(|| held.address + offset)
            };
            self.pieces
                .iter()
                .zip(&held)
                .find_map(of)
                .unwrap_or(address)
        };
        let move_words = |bytes: &[u8]| -> Vec<u8> {
            let word = |b: &[u8]| {
                b.iter()
                    .rev()
                    .fold(0, |word, &byte| word << 8 | u64::from(byte))
            };
            bytes
                .chunks_exact(8)
                .flat_map(|b| moved(word(b)).to_ne_bytes())
                .collect()
        };
        for (piece, held) in self.pieces.iter().zip(&held) {
            match piece.content {
                Content::Addresses => driver.write(&move_words(&piece.before), held.address)?,
                _ => driver.write(&piece.before, held.address)?,
            }
        }
        let mut launch = self.launch;
        launch.args = launch.args.with_addresses(moved);
        stream.launch(&launch)?;
        stream.synchronize()?;
        let tolerance = match launch.kernel {
            Kernel::Block(_) => BLOCK_TOLERANCE,
            _ => TOLERANCE,
        };
        for (piece, held) in self.pieces.iter().zip(&held) {
            let mut found = vec![0; piece.before.len()];
            driver.read(held.address, &mut found)?;
            if let Some(wrong) = piece.difference(&found, tolerance) {
                return Ok(Some(format!(
                    "{}: {wrong}, {:?}",
                    launch.kernel.entry(),
                    self.launch.args
                )));
            }
        }
        Ok(None)
    }
}

impl Piece {
    /// Where what was found is not what the twin leaves.
    fn difference(&self, found: &[u8], tolerance: f32) -> Option<String> {
        let half = |b: &[u8]| super::half::to_f32(u16::from_ne_bytes([b[0], b[1]]));
        let is_near = |(a, e): (&[u8], &[u8])| match self.content {
            Content::Halves => {
                let (a, e) = (half(a), half(e));
                (a - e).abs() <= tolerance * (1.0 + e.abs())
            }
            Content::Bytes => a.iter().zip(e).all(|(a, e)| a.abs_diff(*e) <= 1),
            Content::Exact => a == e,
            Content::Addresses => true,
        };
        let mut pairs = found.chunks_exact(2).zip(self.after.chunks_exact(2));
        let place = pairs.position(|pair| !is_near(pair))?;
        let (a, e) = (&found[place * 2..][..2], &self.after[place * 2..][..2]);
        Some(format!(
            "element {place} is {a:?} ({}), expected {e:?} ({})",
            half(a),
            half(e)
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cuda::FakeDevice;

    #[test]
    fn there_are_cases_of_every_kernel_and_the_fake_device_passes_them() {
        let driver: Arc<dyn Driver> = Arc::new(FakeDevice::new(0, 1 << 30));
        let cases = draw(1, 2);
        for kernel in Kernel::ALL {
            assert!(
                cases.iter().any(|case| case.launch.kernel == kernel),
                "{kernel:?}"
            );
        }
        for case in cases {
            assert_eq!(case.run(&driver).unwrap(), None);
        }
    }

    #[test]
    fn a_wrong_number_is_found() {
        let driver: Arc<dyn Driver> = Arc::new(FakeDevice::new(0, 1 << 30));
        for mut case in draw(2, 1) {
            let written = case
                .pieces
                .iter_mut()
                .find(|piece| piece.before != piece.after)
                .unwrap();
            let place = written
                .before
                .iter()
                .zip(&written.after)
                .position(|(b, a)| b != a)
                .unwrap();
            written.after[place / 2 * 2 + 1] ^= 0x43;
            written.after[place / 2 * 2] ^= 0x43;
            assert!(
                case.run(&driver).unwrap().is_some(),
                "{:?}",
                case.launch.kernel
            );
        }
    }
}
