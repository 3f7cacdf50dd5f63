//! A section of the configuration, declared: each key once, with its type, its default, its range, and whether it
//! may change while the server runs.

use std::ops::RangeInclusive;

use super::BadValue;
use lipsync_core::saturate::usize_of;

/// When a key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heat {
    /// When the server starts.
    Cold,
    /// While the server runs.
    Hot,
}

/// Declares the keys of a section as they are written.
///
/// `heat key: type = default, range;` makes an optional field, and a method of the same name that gives what holds:
/// the value or the default, refused where it is out of the range. Without a range every value is good; without a
/// default there is no method, only the field. A range is for whole numbers. `+ key: Section;`, after all others, is
/// a section in this one.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $name:ident in $path:literal;
        $($heat:ident $key:ident: $type:ident $(= $default:expr $(, $range:expr)?)?;)*
        $(+ $part:ident: $part_type:ident;)*
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct $name {
            $(pub(super) $key: Option<$type>,)*
            $(
                #[serde(deserialize_with = "crate::config::text::null_as_default")]
                pub(super) $part: $part_type,
            )*
        }

        impl $name {
            /// Its keys, and when they take effect.
            pub(super) const KEYS: &[(&str, $crate::config::section::Heat)] = &[$((
                concat!($path, ".", stringify!($key)),
                $crate::config::section::section!(@heat $heat),
            ),)*];

            /// What holds for each key, in some form that is equal for equal values alone.
            #[allow(dead_code, reason = "the models' keys are compared by the registry")]
            pub(super) fn values(&self) -> Vec<(&'static str, String)> {
                vec![$((
                    concat!($path, ".", stringify!($key)),
                    $crate::config::section::section!(
                        @shown self $key $($default $(, $range)?)?
                    ),
                ),)*]
            }

            $($($crate::config::section::section!(@value $path $key $type $default $(, $range)?);)?)*
        }
    };
    (@heat cold) => { $crate::config::section::Heat::Cold };
    (@heat hot) => { $crate::config::section::Heat::Hot };
    (@shown $self:ident $key:ident) => {
        format!("{:?}", $self.$key)
    };
    (@shown $self:ident $key:ident $default:expr) => {
        format!("{:?}", $self.$key())
    };
    (@shown $self:ident $key:ident $default:expr, $range:expr) => {
        format!("{:?}", $self.$key().ok())
    };
    (@value $path:literal $key:ident Text $default:expr) => {
        fn $key(&self) -> &str {
            self.$key.as_deref().unwrap_or($default)
        }
    };
    (@value $path:literal $key:ident $type:ident $default:expr) => {
        fn $key(&self) -> $type {
            self.$key.unwrap_or($default)
        }
    };
    (@value $path:literal $key:ident $type:ident $default:expr, $range:expr) => {
        fn $key(&self) -> Result<u64, $crate::config::BadValue> {
            let value = self.$key.map_or($default, u64::from);
            let key = concat!($path, ".", stringify!($key));
            $crate::config::section::in_range(key, value, $range)
        }
    };
}
pub(super) use section;

/// The value, if it lies in the range.
pub(super) fn in_range(key: &str, value: u64, range: RangeInclusive<u64>) -> Result<u64, BadValue> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(BadValue {
        key: key.into(),
        message: format!(
            "expected {} to {}, found {value}",
            range.start(),
            range.end()
        ),
    })
}

/// The value, if it lies in the range of such numbers.
pub(super) fn between(key: &str, value: f64, range: RangeInclusive<f64>) -> Result<f64, BadValue> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(BadValue {
        key: key.into(),
        // `{:?}` writes very small and very large numbers with an exponent, not with hundreds of zeros.
        message: format!(
            "expected a number from {} to {}, found {value:?}",
            range.start(),
            range.end()
        ),
    })
}

/// A number of MiB in bytes.
pub(super) fn mebibytes(value: u64) -> usize {
    usize_of(value) * 1024 * 1024
}

/// A number of GiB in bytes.
pub(super) fn gibibytes(key: &str, value: f64) -> Result<u64, BadValue> {
    multiple(key, value, 1024.0 * 1024.0 * 1024.0)
}

/// A number of GMAC in MACs.
pub(super) fn gmacs(key: &str, value: f64) -> Result<u64, BadValue> {
    multiple(key, value, 1e9)
}

/// This many of `unit`, which is up to some 10^9. Less than a thousandth of it is less than any model needs.
fn multiple(key: &str, value: f64, unit: f64) -> Result<u64, BadValue> {
    let value = between(key, value, 0.001..=1e6)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be positive and at most 10^6 units"
    )]
    let n = (value * unit) as u64;
    Ok(n)
}
