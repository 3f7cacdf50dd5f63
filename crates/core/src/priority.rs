//! How urgent a request is.

/// How urgent a caller says a request is; ordered, so that `High > Normal > Low`.
///
/// Every job carries it to the worker pool, where a higher level goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Can wait.
    Low,
    /// The default; `medium` in headers means the same.
    #[default]
    Normal,
    /// Should not wait.
    High,
}

impl Priority {
    /// Parses the header form: `high`, `normal`, `medium` (the same as normal) or `low`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "high" => Some(Self::High),
            "normal" | "medium" => Some(Self::Normal),
            "low" => Some(Self::Low),
            _ => None,
        }
    }

    /// The level as headers and the configuration write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medium_is_normal_and_order_is_urgency() {
        assert_eq!(Priority::parse("medium"), Some(Priority::Normal));
        assert_eq!(Priority::parse("HIGH"), None);
        assert!(Priority::High > Priority::Normal && Priority::Normal > Priority::Low);
    }
}
