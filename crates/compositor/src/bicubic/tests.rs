//! Tests of `bicubic`.
