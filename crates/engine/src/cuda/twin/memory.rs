//! A device's memory, in the host's.

use std::collections::BTreeMap;

use crate::cuda::half;

/// Something reached outside all that is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadAddress {
    pub address: u64,
    pub n_bytes: u64,
}

/// Where the first allocation lies.
const FIRST_ADDRESS: u64 = 0x1000_0000_0000;
/// Allocations end where a page of so many bytes ends, with a page at least between two of them: a host that
/// maps them where they are notices who reads past the end.
const PAGE: u64 = 4096;

/// What is allocated, by address.
#[derive(Debug)]
pub(crate) struct Memory {
    allocations: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            allocations: BTreeMap::new(),
            next: FIRST_ADDRESS,
        }
    }
}

/// Pixels of so many channels, some elements apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels {
    pub address: u64,
    pub n: usize,
    pub channels: usize,
    pub stride: usize,
}

impl Memory {
    /// Allocates; what is there at first is a pattern that is no number in fp16.
    pub fn allocate(&mut self, n_bytes: usize) -> u64 {
        let len = (n_bytes as u64).next_multiple_of(16);
        let address = (self.next + len).next_multiple_of(PAGE) - len;
        self.next = address + len + PAGE;
        self.allocations.insert(address, vec![0xff; n_bytes]);
        address
    }

    /// Frees; how many bytes those were.
    pub fn free(&mut self, address: u64) -> u64 {
        let freed = self.allocations.remove(&address);
        freed.map_or(0, |bytes| bytes.len() as u64)
    }

    /// Allocations in order, with what they hold.
    pub fn allocations(&self) -> &BTreeMap<u64, Vec<u8>> {
        &self.allocations
    }

    /// Bytes from an address on.
    pub fn bytes(&self, address: u64, n_bytes: usize) -> Result<&[u8], BadAddress> {
        let found = self.allocations.range(..=address).next_back();
        let part = found.and_then(|(start, bytes)| {
            let first = usize::try_from(address - start).ok()?;
            bytes.get(first..first.checked_add(n_bytes)?)
        });
        part.ok_or(BadAddress {
            address,
            n_bytes: n_bytes as u64,
        })
    }

    /// The same, to write to.
    pub fn bytes_mut(&mut self, address: u64, n_bytes: usize) -> Result<&mut [u8], BadAddress> {
        let found = self.allocations.range_mut(..=address).next_back();
        let part = found.and_then(|(start, bytes)| {
            let first = usize::try_from(address - start).ok()?;
            bytes.get_mut(first..first.checked_add(n_bytes)?)
        });
        part.ok_or(BadAddress {
            address,
            n_bytes: n_bytes as u64,
        })
    }

    /// Floats from an address on.
    pub fn floats(&self, address: u64, n: usize) -> Result<Vec<f32>, BadAddress> {
        let bytes = self.bytes(address, n * 4)?.chunks_exact(4);
        Ok(bytes
            .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// Addresses from an address on.
    pub fn addresses(&self, address: u64, n: usize) -> Result<Vec<u64>, BadAddress> {
        let bytes = self.bytes(address, n * 8)?.chunks_exact(8);
        let word = |b: &[u8]| {
            b.iter()
                .rev()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        };
        Ok(bytes.map(word).collect())
    }

    /// 32-bit numbers from an address on.
    pub fn words(&self, address: u64, n: usize) -> Result<Vec<u32>, BadAddress> {
        let bytes = self.bytes(address, n * 4)?.chunks_exact(4);
        Ok(bytes
            .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// fp16 numbers from an address on.
    pub fn halves(&self, address: u64, n: usize) -> Result<Vec<f32>, BadAddress> {
        let bytes = self.bytes(address, n * 2)?.chunks_exact(2);
        Ok(bytes
            .map(|b| half::to_f32(u16::from_ne_bytes([b[0], b[1]])))
            .collect())
    }

    /// The channels of all pixels, densely.
    pub(super) fn read(&self, pixels: Pixels) -> Result<Vec<f32>, BadAddress> {
        let Pixels {
            address,
            n,
            channels,
            stride,
        } = pixels;
        let bytes = self.bytes(address, pixels.n_bytes())?;
        let mut values = Vec::with_capacity(n * channels);
        for pixel in bytes.chunks(stride * 2).take(n) {
            let halves = pixel[..channels * 2].chunks_exact(2);
            values.extend(halves.map(|b| half::to_f32(u16::from_ne_bytes([b[0], b[1]]))));
        }
        Ok(values)
    }

    /// Writes the channels of all pixels, rounded; what lies between stays.
    pub(super) fn write(&mut self, pixels: Pixels, values: &[f32]) -> Result<(), BadAddress> {
        let Pixels {
            address,
            channels,
            stride,
            ..
        } = pixels;
        let bytes = self.bytes_mut(address, pixels.n_bytes())?;
        for (pixel, values) in bytes
            .chunks_mut(stride * 2)
            .zip(values.chunks_exact(channels))
        {
            for (to, &x) in pixel.chunks_exact_mut(2).zip(values) {
                to.copy_from_slice(&half::from_f32(x).to_ne_bytes());
            }
        }
        Ok(())
    }
}

impl Pixels {
    pub fn new(address: u64, n: u32, channels: u32, stride: u32) -> Self {
        Self {
            address,
            n: n as usize,
            channels: channels as usize,
            stride: stride as usize,
        }
    }

    fn n_bytes(self) -> usize {
        match self.n {
            0 => 0,
            n => ((n - 1) * self.stride + self.channels) * 2,
        }
    }
}
