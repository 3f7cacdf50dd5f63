//! Constants of an ONNX file as typed, checked tensors.

use lipsync_core::Foreign;

use super::proto::TensorProto;
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

/// Element types by their numbers in the format.
pub mod element_type {
    /// 32-bit float.
    pub const FLOAT: i32 = 1;
    /// 32-bit signed integer.
    pub const INT32: i32 = 6;
    /// 64-bit signed integer.
    pub const INT64: i32 = 7;
    /// One byte, 0 or 1.
    pub const BOOL: i32 = 9;
    /// 64-bit float.
    pub const DOUBLE: i32 = 11;
}

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

    /// Reads a constant of a file.
    ///
    /// The number of elements is compared with the bytes that are really there before anything is
    /// allocated, so dimensions that lie cost nothing.
    ///
    /// # Errors
    /// [`EngineError::Malformed`] for impossible or lying dimensions, element types outside
    /// [`element_type`], data in another file and non-finite floats.
    pub fn from_proto(proto: &TensorProto) -> Result<Self, EngineError> {
        let bad = |reason: String| EngineError::Malformed {
            reason: format!("tensor {:?}: {reason}", Foreign(&proto.name)),
        };
        if proto.data_location != 0 {
            return Err(bad("its data lies in another file".into()));
        }
        if proto.dims.len() > MAX_RANK {
            return Err(bad(format!("{} dimensions", proto.dims.len())));
        }
        let dims: Option<Vec<usize>> = proto.dims.iter().map(|&d| d.try_into().ok()).collect();
        let dims = dims.ok_or_else(|| bad(format!("dimensions {:?}", proto.dims)))?;
        let data = match proto.data_type {
            element_type::FLOAT => {
                TensorData::F32(elements(proto, &proto.float_data, f32::from_le_bytes))
            }
            element_type::DOUBLE => {
                let wide = elements(proto, &proto.double_data, f64::from_le_bytes);
                TensorData::F32(wide.into_iter().map(narrow).collect())
            }
            element_type::INT64 => {
                TensorData::I64(elements(proto, &proto.int64_data, i64::from_le_bytes))
            }
            element_type::INT32 => {
                let narrow = elements(proto, &proto.int32_data, i32::from_le_bytes);
                TensorData::I64(narrow.into_iter().map(i64::from).collect())
            }
            element_type::BOOL if proto.raw_data.is_empty() => {
                TensorData::I64(proto.int32_data.iter().map(|&b| i64::from(b)).collect())
            }
            element_type::BOOL => {
                TensorData::I64(proto.raw_data.iter().map(|&b| i64::from(b)).collect())
            }
            other => return Err(bad(format!("element type {other} is not supported"))),
        };
        if let TensorData::F32(floats) = &data
            && !floats.iter().all(|f| f.is_finite())
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

/// The elements from the raw bytes, or from the typed field where there are none. Trailing bytes
/// that make no whole element are ignored.
fn elements<T: Copy, const N: usize>(
    proto: &TensorProto,
    typed: &[T],
    from_bytes: fn([u8; N]) -> T,
) -> Vec<T> {
    if proto.raw_data.is_empty() {
        return typed.to_vec();
    }
    let (whole, _) = proto.raw_data.as_chunks::<N>();
    whole.iter().map(|&bytes| from_bytes(bytes)).collect()
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
}
