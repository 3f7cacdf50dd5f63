//! On whose behalf something is done, and how much of the server that gets.

use std::{fmt, num::NonZeroU32, sync::Arc};

/// A tenant: one of those who share the server. Cloning is cheap.
///
/// So far there is one, [`TenantId::default`], whose id is `default`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// A tenant of this id. What an id may be is for the configuration to check.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    /// The tenant of all callers where no tenants are configured.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A tenant's share of the workers beside others: twice the weight, twice the work, where both want more
/// than there is. 1 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// The largest there is.
    pub const MAX: u32 = 1000;

    /// A weight of 1 to [`MAX`](Self::MAX).
    #[must_use]
    pub fn new(weight: u32) -> Option<Self> {
        NonZeroU32::new(weight)
            .filter(|weight| weight.get() <= Self::MAX)
            .map(Self)
    }

    /// The weight as a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_callers_without_a_tenant_have_the_same() {
        assert_eq!(TenantId::default(), TenantId::default());
        assert_eq!(TenantId::default().as_str(), "default");
        assert_eq!(TenantId::default().to_string(), "default");
    }

    #[test]
    fn a_weight_is_from_1_to_1000() {
        assert_eq!(Weight::default().get(), 1);
        let of = |n| Weight::new(n).map(Weight::get);
        assert_eq!(
            [0, 1, 1000, 1001].map(of),
            [None, Some(1), Some(1000), None]
        );
    }
}
