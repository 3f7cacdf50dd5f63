//! Features that clients computed themselves: steps or whole windows as f32 bytes.

use crate::AudioError;

/// Decodes f32 LE bytes into values, `item_values` to an item.
///
/// For feature steps an item is one step ([`SpeechForm::step_floats`](crate::SpeechForm::step_floats) values). For windows
/// it is one frame's window (`C x H x W`, as the network expects it).
/// `what` names the data in errors.
///
/// # Errors
/// [`AudioError::ByteLength`] when the bytes are not whole items, [`AudioError::NotFinite`] for a
/// NaN or an infinity.
pub fn decode_features(
    bytes: &[u8],
    item_values: usize,
    what: &'static str,
) -> Result<Vec<f32>, AudioError> {
    let item_bytes = item_values.max(1).saturating_mul(size_of::<f32>());
    if !bytes.len().is_multiple_of(item_bytes) {
        return Err(AudioError::ByteLength {
            what,
            n_bytes: bytes.len(),
            item_bytes,
        });
    }
    decode_finite(bytes, what)
}

/// Decodes whole f32 LE values and refuses those that are not finite.
pub(crate) fn decode_finite(bytes: &[u8], what: &'static str) -> Result<Vec<f32>, AudioError> {
    let (values, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(AudioError::NotFinite { what, index }),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_partial_items_and_values_that_are_not_finite() {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let good: Vec<u8> = bytes(&[1.0, -2.0, 3.5, 0.0]);
        assert_eq!(
            decode_features(&good, 2, "steps"),
            Ok(vec![1.0, -2.0, 3.5, 0.0])
        );
        assert_eq!(decode_features(&[], 2, "steps"), Ok(vec![]));
        assert_eq!(
            decode_features(&good[..12], 2, "steps"),
            Err(AudioError::ByteLength {
                what: "steps",
                n_bytes: 12,
                item_bytes: 8
            })
        );
        let bad: Vec<u8> = bytes(&[1.0, 2.0, f32::NEG_INFINITY, f32::NAN]);
        assert_eq!(
            decode_features(&bad, 4, "windows"),
            Err(AudioError::NotFinite {
                what: "windows",
                index: 2
            })
        );
    }
}
