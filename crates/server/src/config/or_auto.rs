//! What is written for a key that takes a number or `auto`.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// By this name the reader knows the type.
pub(super) const NAME: &str = "OrAuto";
/// What is written for it.
pub(super) const AUTO: &str = "auto";

/// A value, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum OrAuto<T> {
    Auto,
    Value(T),
}

/// A whole number of MiB.
pub(super) type MebibytesOrAuto = OrAuto<u32>;
/// A number of GiB.
pub(super) type GibibytesOrAuto = OrAuto<f64>;

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrAuto<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OrAuto<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or auto")
            }

            /// Said for `auto`, and by a reader that has nothing to say.
            fn visit_unit<E: de::Error>(self) -> Result<OrAuto<T>, E> {
                Ok(OrAuto::Auto)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                value: D,
            ) -> Result<OrAuto<T>, D::Error> {
                T::deserialize(value).map(OrAuto::Value)
            }
        }

        input.deserialize_newtype_struct(NAME, Either(PhantomData))
    }
}
