//! What is odd about a call and no reason to refuse it.

/// Something that a client should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub text: String,
}
