//! Errors with their causes, as one line for people.

use std::error::Error;

/// The texts of an error and its causes, except those that the text before already quotes.
///
/// `chain` begins with the error, as `anyhow::Error::chain` gives it.
pub fn with_causes<'a>(chain: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut text = String::new();
    for cause in chain.map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
