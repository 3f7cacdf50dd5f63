//! Which instruction set the kernels use.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "entering a function that is compiled for more than the base instruction set"
    )
)]

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512, Avx512Bf16};
use super::simd::{Portable, Simd};
use crate::{Precision, Steps, cpu::CpuIsa};

/// An instruction set was asked for that this CPU lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this CPU does not have the instruction set {asked}")]
pub struct UnsupportedIsa {
    /// What was asked for.
    pub asked: CpuIsa,
}

/// An instruction set that this CPU has.
///
/// The payloads can be made only by asking the CPU, so a value is the proof that the instructions
/// may be executed; [`CpuIsa::resolve`] gives one.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL and BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// What every CPU of the architecture has.
    Portable,
}

/// A computation written once for every instruction set.
///
/// `run` and all that it calls in its loops must be `#[inline(always)]`: only what is inlined
/// into the functions of [`Isa::run`] is compiled for the instruction set.
pub(super) trait Kernel {
    /// Whether the instructions for bf16 are any use to it; a copy compiled for them is saved where
    /// they are not.
    const BF16: bool = false;

    /// Does the work with the vectors of `simd`.
    fn run<S: Simd>(self, simd: S);
}

impl CpuIsa {
    /// Asks the CPU.
    ///
    /// # Errors
    /// [`UnsupportedIsa`] when the CPU lacks what is asked for; never for `Auto` and `Portable`.
    pub fn resolve(self) -> Result<Isa, UnsupportedIsa> {
        let found = match self {
            Self::Auto => Isa::available().into_iter().next(),
            Self::Avx512Bf16 => Isa::avx512_bf16(),
            Self::Avx512 => Isa::avx512(),
            Self::Avx2 => Isa::avx2(),
            Self::Portable => Some(Isa::Portable),
        };
        found.ok_or(UnsupportedIsa { asked: self })
    }
}

impl Isa {
    /// All that this CPU has, the widest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let all = [
            Self::avx512_bf16(),
            Self::avx512(),
            Self::avx2(),
            Some(Self::Portable),
        ];
        all.into_iter().flatten().collect()
    }

    /// The name that the configuration uses for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether the CPU multiplies bf16 numbers; the others compute the same in f32.
    #[must_use]
    pub fn has_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => true,
            _ => false,
        }
    }

    /// The numbers in which the CPU computes matrix products fastest.
    ///
    /// AVX2 multiplies four times as many bytes as floats, of which the widening of the sums leaves two and a half
    /// times as many. AVX-512 without VNNI does too, but adds on the same units; so nothing is gained there.
    #[must_use]
    pub fn fastest(self) -> Precision {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => Precision::Bf16,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Precision::Int8(Steps::ALL),
            _ => Precision::F32,
        }
    }

    /// Floats of a vector.
    #[must_use]
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) | Self::Avx512(_) => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::LANES,
            Self::Portable => Portable::LANES,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn avx512_bf16() -> Option<Self> {
        Avx512Bf16::detect().map(Self::Avx512Bf16)
    }

    #[cfg(target_arch = "x86_64")]
    fn avx512() -> Option<Self> {
        Avx512::detect().map(Self::Avx512)
    }

    #[cfg(target_arch = "x86_64")]
    fn avx2() -> Option<Self> {
        Avx2::detect().map(Self::Avx2)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx512_bf16() -> Option<Self> {
        None
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx512() -> Option<Self> {
        None
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn avx2() -> Option<Self> {
        None
    }

    /// Runs a kernel compiled for this instruction set.
    pub(super) fn run<K: Kernel>(self, kernel: K) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => {
                run_where_bf16(simd, kernel);
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => {
                // SAFETY: an `Avx512` exists only where `Avx512::detect` found these features.
                unsafe { run_avx512(simd, kernel) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => {
                // SAFETY: an `Avx2` exists only where `Avx2::detect` found these features.
                unsafe { run_avx2(simd, kernel) }
            }
            Self::Portable => kernel.run(Portable),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn run_where_bf16<K: Kernel>(simd: Avx512Bf16, kernel: K) {
    if K::BF16 {
        // SAFETY: an `Avx512Bf16` exists only where `Avx512Bf16::detect` found these features.
        unsafe { run_avx512_bf16(simd, kernel) }
    } else {
        // SAFETY: they are fewer features than those of `Avx512Bf16`.
        unsafe { run_avx512(simd.without_bf16(), kernel) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512_bf16(simd: Avx512Bf16, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512(simd: Avx512, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(simd: Avx2, kernel: impl Kernel) {
    kernel.run(simd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_the_widest_and_portable_always_works() {
        let best = CpuIsa::Auto.resolve().unwrap();
        assert_eq!(best.name(), Isa::available()[0].name());
        assert_eq!(CpuIsa::Portable.resolve().unwrap().name(), "portable");
        for asked in [CpuIsa::Avx512Bf16, CpuIsa::Avx512, CpuIsa::Avx2] {
            let listed = Isa::available()
                .iter()
                .any(|isa| isa.name() == asked.to_string());
            assert_eq!(asked.resolve().is_ok(), listed);
        }
    }
}
