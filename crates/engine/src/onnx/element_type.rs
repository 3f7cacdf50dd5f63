//! Element types of tensors, by their numbers in the format.

/// 32-bit float.
pub const FLOAT: i32 = 1;
/// 8-bit unsigned integer.
pub const UINT8: i32 = 2;
/// 8-bit signed integer.
pub const INT8: i32 = 3;
/// 16-bit unsigned integer.
pub const UINT16: i32 = 4;
/// 16-bit signed integer.
pub const INT16: i32 = 5;
/// 32-bit signed integer.
pub const INT32: i32 = 6;
/// 64-bit signed integer.
pub const INT64: i32 = 7;
/// One byte, 0 or 1.
pub const BOOL: i32 = 9;
/// 16-bit float of IEEE 754.
pub const FLOAT16: i32 = 10;
/// 64-bit float.
pub const DOUBLE: i32 = 11;
/// 32-bit unsigned integer.
pub const UINT32: i32 = 12;
/// 64-bit unsigned integer.
pub const UINT64: i32 = 13;
/// The upper half of a 32-bit float.
pub const BFLOAT16: i32 = 16;

/// Whether it is one of the float types, which all are run in f32.
#[must_use]
pub fn is_float(element_type: i32) -> bool {
    matches!(element_type, FLOAT | FLOAT16 | DOUBLE | BFLOAT16)
}

/// Whether it is one of the integer types.
#[must_use]
pub fn is_integer(element_type: i32) -> bool {
    bytes(element_type).is_some() && !is_float(element_type)
}

/// Bytes of an element, for the types that are read.
#[must_use]
pub fn bytes(element_type: i32) -> Option<usize> {
    match element_type {
        UINT8 | INT8 | BOOL => Some(1),
        UINT16 | INT16 | FLOAT16 | BFLOAT16 => Some(2),
        FLOAT | INT32 | UINT32 => Some(4),
        DOUBLE | INT64 | UINT64 => Some(8),
        _ => None,
    }
}

/// The name of a type, for messages.
#[must_use]
pub fn name(element_type: i32) -> String {
    let name = match element_type {
        FLOAT => "f32",
        UINT8 => "u8",
        INT8 => "i8",
        UINT16 => "u16",
        INT16 => "i16",
        INT32 => "i32",
        INT64 => "i64",
        8 => "string",
        BOOL => "bool",
        FLOAT16 => "f16",
        DOUBLE => "f64",
        UINT32 => "u32",
        UINT64 => "u64",
        14 => "complex64",
        15 => "complex128",
        BFLOAT16 => "bf16",
        17..=20 => "an 8-bit float",
        21 => "u4",
        22 => "i4",
        23 => "a 4-bit float",
        other => return format!("number {other}"),
    };
    name.to_owned()
}
