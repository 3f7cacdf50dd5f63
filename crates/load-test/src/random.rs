//! Repeatable random numbers: the `SplitMix64` generator.
//!
//! Nothing here needs good randomness, but a run must be repeatable from its seed on any machine.

/// A repeatable random sequence.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Sequence number `stream` of `seed`; different streams are unrelated.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut mixer = Self {
            state: seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95),
        };
        mixer.next_u64();
        mixer
    }

    /// The next 64 bits.
    ///
    /// *Source:* <https://prng.di.unimi.it/splitmix64.c>.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number in `-1.0..1.0`.
    pub fn signed_unit(&mut self) -> f32 {
        // 24 bits are exact in f32.
        (self.next_u64() >> 40) as f32 / 8_388_608.0 - 1.0
    }
}
