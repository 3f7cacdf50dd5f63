//! On whose behalf something is done.

use std::{fmt, sync::Arc};

/// A tenant: one of those who share the server. Cloning is cheap.
///
/// So far there is one, [`TenantId::default`], whose id is `default`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_callers_without_a_tenant_have_the_same() {
        assert_eq!(TenantId::default(), TenantId::default());
        assert_eq!(TenantId::default().as_str(), "default");
        assert_eq!(TenantId::default().to_string(), "default");
    }
}
