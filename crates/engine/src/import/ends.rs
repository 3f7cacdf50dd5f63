//! Inputs and outputs in words.

use super::TensorInfo;

/// Inputs and outputs that are shown of each; networks of the family have two and one.
pub(crate) const MAX_SHOWN_ENDS: usize = 4;

/// Inputs and outputs in words, for messages.
pub(crate) fn describe_ends(inputs: &[TensorInfo], outputs: &[TensorInfo]) -> String {
    let list = |infos: &[TensorInfo]| {
        let mut shown: Vec<_> = infos
            .iter()
            .take(MAX_SHOWN_ENDS)
            .map(ToString::to_string)
            .collect();
        if infos.len() > MAX_SHOWN_ENDS {
            shown.push(format!("… ({} in all)", infos.len()));
        }
        shown.join(", ")
    };
    format!("{} to {}", list(inputs), list(outputs))
}
