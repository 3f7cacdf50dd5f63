//! Constants of an ONNX file as typed, checked tensors.

use lipsync_core::{Foreign, saturate::i64_of};

use super::{element_type, external::DataFiles, proto::TensorProto};
use crate::EngineError;

/// A constant: dimensions and row-major elements, whose number is the product of the dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: TensorData,
}

/// Elements by kind. Every integer type and bool is held as `i64`, every float type as `f32`.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// Floats.
    F32(Vec<f32>),
    /// Integers.
    I64(Vec<i64>),
}

/// Most dimensions of a tensor; networks of the family have four.
pub const MAX_RANK: usize = 8;

impl Tensor {
    /// Wraps elements, or `None` where their number is not the product of `dims` or there are more
    /// than [`MAX_RANK`] of these.
    #[must_use]
    pub fn new(dims: Vec<usize>, data: TensorData) -> Option<Self> {
        (dims.len() <= MAX_RANK && n_elements(&dims)? == data.len()).then_some(Self { dims, data })
    }

    /// A one-dimensional integer tensor.
    #[must_use]
    pub fn from_ints(ints: Vec<i64>) -> Self {
        Self {
            dims: vec![ints.len()],
            data: TensorData::I64(ints),
        }
    }

    /// The dimensions; none is a scalar.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The elements.
    #[must_use]
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements, if they are floats.
    #[must_use]
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            TensorData::I64(_) => None,
        }
    }

    /// The elements, if they are integers.
    #[must_use]
    pub fn ints(&self) -> Option<&[i64]> {
        match &self.data {
            TensorData::I64(v) => Some(v),
            TensorData::F32(_) => None,
        }
    }

    /// Reads a constant of a file that holds all of its own data.
    ///
    /// # Errors
    /// As `Self::read`.
    pub fn from_proto(proto: &TensorProto) -> Result<Self, EngineError> {
        Self::read(proto, &mut DataFiles::default())
    }

    /// Reads a constant whose data may be in one of `files`.
    ///
    /// The number of elements is compared with the bytes that are really there before anything is
    /// allocated, so dimensions that lie cost nothing.
    ///
    /// # Errors
    /// [`EngineError::Malformed`] for impossible or lying dimensions, element types outside
    /// [`element_type`], data that is in no file or not where the constant says, and non-finite floats.
    pub(crate) fn read(
        proto: &TensorProto,
        files: &mut DataFiles<'_>,
    ) -> Result<Self, EngineError> {
        Self::read_where(proto, files, f32::is_finite)
    }

    /// As [`read`](Self::read), but floats may be infinite, as masks of attention are.
    ///
    /// # Errors
    /// As `Self::read`.
    pub(crate) fn read_with_infinities(
        proto: &TensorProto,
        files: &mut DataFiles<'_>,
    ) -> Result<Self, EngineError> {
        Self::read_where(proto, files, |float| !float.is_nan())
    }

    fn read_where(
        proto: &TensorProto,
        files: &mut DataFiles<'_>,
        is_good: fn(f32) -> bool,
    ) -> Result<Self, EngineError> {
        let bad = |reason: String| EngineError::Malformed {
            reason: format!("tensor {:?}: {reason}", Foreign(&proto.name)),
        };
        if proto.dims.len() > MAX_RANK {
            return Err(bad(format!("{} dimensions", proto.dims.len())));
        }
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|&d| d.try_into().ok()).collect();
        let dims = dims.ok_or_else(|| bad(format!("dimensions {:?}", proto.dims)))?;
        let raw = match proto.data_location {
            0 => &proto.raw_data[..],
            _ => files.take(proto)?,
        };
        let data = elements(proto, raw).ok_or_else(|| {
            let found = element_type::name(proto.data_type);
            bad(format!("elements of type {found} are not supported"))
        })?;
        if let TensorData::F32(floats) = &data
            && !floats.iter().copied().all(is_good)
        {
            return Err(bad("it holds a value that is not finite".into()));
        }
        let n_found = data.len();
        Self::new(dims, data).ok_or_else(|| {
            bad(format!(
                "dimensions {:?} but {n_found} elements",
                proto.dims
            ))
        })
    }
}

impl TensorData {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The product of dimensions, or `None` where it overflows.
#[must_use]
pub fn n_elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))
}

/// The elements from the raw bytes, or from the typed field where there are none; `None` for types that are not
/// read.
fn elements(proto: &TensorProto, raw: &[u8]) -> Option<TensorData> {
    let halves = |widen: fn(u16) -> f32| {
        let bits = if raw.is_empty() {
            proto
                .int32_data
                .iter()
                .map(|&bits| low_half(bits))
                .collect()
        } else {
            whole(raw, u16::from_le_bytes)
        };
        TensorData::F32(bits.into_iter().map(widen).collect())
    };
    let ints = |read: fn(&[u8]) -> Vec<i64>| {
        let typed = || proto.int32_data.iter().map(|&i| i64::from(i)).collect();
        TensorData::I64(if raw.is_empty() { typed() } else { read(raw) })
    };
    Some(match proto.data_type {
        element_type::FLOAT if raw.is_empty() => TensorData::F32(proto.float_data.clone()),
        element_type::FLOAT => TensorData::F32(whole(raw, f32::from_le_bytes)),
        element_type::DOUBLE => {
            let wide = if raw.is_empty() {
                proto.double_data.clone()
            } else {
                whole(raw, f64::from_le_bytes)
            };
            TensorData::F32(wide.into_iter().map(narrow).collect())
        }
        element_type::FLOAT16 => halves(half_to_f32),
        element_type::BFLOAT16 => halves(|bits| f32::from_bits(u32::from(bits) << 16)),
        element_type::INT64 if raw.is_empty() => TensorData::I64(proto.int64_data.clone()),
        element_type::INT64 => TensorData::I64(whole(raw, i64::from_le_bytes)),
        element_type::UINT32 | element_type::UINT64 if raw.is_empty() => {
            let wide = proto.uint64_data.iter();
            TensorData::I64(wide.copied().map(i64_of).collect())
        }
        element_type::UINT64 => ints(|raw| {
            let wide = whole(raw, u64::from_le_bytes).into_iter();
            wide.map(i64_of).collect()
        }),
        element_type::UINT32 => ints(|raw| widened(whole(raw, u32::from_le_bytes))),
        element_type::INT32 => ints(|raw| widened(whole(raw, i32::from_le_bytes))),
        element_type::UINT16 => ints(|raw| widened(whole(raw, u16::from_le_bytes))),
        element_type::INT16 => ints(|raw| widened(whole(raw, i16::from_le_bytes))),
        element_type::INT8 => ints(|raw| widened(whole(raw, i8::from_le_bytes))),
        element_type::UINT8 | element_type::BOOL => ints(|raw| widened(raw.to_vec())),
        _ => return None,
    })
}

/// The numbers in raw bytes. Trailing bytes that make no whole number are ignored.
fn whole<T, const N: usize>(raw: &[u8], from_bytes: fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = raw.as_chunks::<N>();
    whole.iter().map(|&bytes| from_bytes(bytes)).collect()
}

fn widened<T: Into<i64>>(narrow: Vec<T>) -> Vec<i64> {
    narrow.into_iter().map(Into::into).collect()
}

/// The bits of a 16-bit float, which the format keeps in a wider field.
fn low_half(bits: i32) -> u16 {
    let [low, high, ..] = bits.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The value of a binary16 number; infinite and undefined ones stay so, and are refused.
fn half_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let (exponent, fraction) = (half >> 10 & 31, u32::from(half & 0x3ff));
    let magnitude = match exponent {
        // A product is exact for subnormal numbers too: 2^-24 each.
        0 => (f32::from(half & 0x3ff) * f32::from_bits((127 - 24) << 23)).to_bits(),
        31 => 0x7f80_0000 | fraction << 13,
        _ => (u32::from(exponent) + 112) << 23 | fraction << 13,
    };
    f32::from_bits(magnitude | sign)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "weights saved in f64 are run in f32; an overflow becomes infinite and is refused"
)]
fn narrow(wide: f64) -> f32 {
    wide as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lying_dimensions_are_refused_before_allocation() {
        for dims in [vec![i64::MAX, i64::MAX], vec![1 << 40], vec![-1], vec![3]] {
            let proto = TensorProto {
                dims,
                data_type: element_type::FLOAT,
                raw_data: vec![0; 8],
                ..TensorProto::default()
            };
            let error = Tensor::from_proto(&proto).unwrap_err();
            assert!(matches!(error, EngineError::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn raw_and_typed_fields_read_alike() {
        let raw = TensorProto {
            dims: vec![2],
            data_type: element_type::FLOAT,
            raw_data: [1.5_f32, -2.0]
                .iter()
                .flat_map(|f| f.to_le_bytes())
                .collect(),
            ..TensorProto::default()
        };
        let typed = TensorProto {
            raw_data: vec![],
            float_data: vec![1.5, -2.0],
            ..raw.clone()
        };
        let raw = Tensor::from_proto(&raw).unwrap();
        assert_eq!(raw.floats(), Some(&[1.5, -2.0][..]));
        assert_eq!(Some(raw), Tensor::from_proto(&typed).ok());
    }

    #[test]
    fn every_float_and_integer_type_is_read() {
        let read = |data_type: i32, raw_data: &[u8]| {
            let proto = TensorProto {
                dims: vec![2],
                data_type,
                raw_data: raw_data.to_vec(),
                ..TensorProto::default()
            };
            Tensor::from_proto(&proto).unwrap().data().clone()
        };
        let floats = TensorData::F32(vec![1.5, -2.0]);
        assert_eq!(
            read(element_type::FLOAT16, &[0x00, 0x3e, 0x00, 0xc0]),
            floats
        );
        assert_eq!(
            read(element_type::BFLOAT16, &[0xc0, 0x3f, 0x00, 0xc0]),
            floats
        );
        let doubles = [1.5_f64, -2.0].map(f64::to_le_bytes).concat();
        assert_eq!(read(element_type::DOUBLE, &doubles), floats);
        let tiny = TensorData::F32(vec![2.0_f32.powi(-24), 65504.0]);
        assert_eq!(read(element_type::FLOAT16, &[1, 0, 0xff, 0x7b]), tiny);
        assert_eq!(
            read(element_type::INT8, &[255, 1]),
            TensorData::I64(vec![-1, 1])
        );
        assert_eq!(
            read(element_type::UINT8, &[255, 1]),
            TensorData::I64(vec![255, 1])
        );
        let typed = TensorProto {
            dims: vec![2],
            data_type: element_type::FLOAT16,
            int32_data: vec![0x3e00, 0xc000],
            ..TensorProto::default()
        };
        assert_eq!(Tensor::from_proto(&typed).unwrap().data(), &floats);
    }
}
