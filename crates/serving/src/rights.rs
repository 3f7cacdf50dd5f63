//! What a tenant may ask for, and how much of the server it may hold.

use std::collections::BTreeSet;

use lipsync_core::{ModelId, Priority};

/// What one tenant may do. By default everything: a server that knows no tenants has one, of everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Whether there are other tenants, beside whom it has only a share.
    pub is_one_of_many: bool,
    /// Whether it may load and unload models, and see what all tenants do.
    pub is_admin: bool,
    /// Models of which it may have frames.
    pub models: Models,
    /// The most urgent level that it may ask for.
    pub max_priority: Priority,
    /// The most that it may have at once, or in a second.
    pub quotas: Quotas,
}

/// Some of the configured models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Models {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(BTreeSet<ModelId>),
}

/// What a tenant may hold; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Frames that are generated for it.
    pub frames: Option<FrameRate>,
    /// Sessions open at once.
    pub max_sessions: Option<usize>,
    /// Unary calls at once.
    pub max_requests: Option<usize>,
    /// Bytes of its messages on their way in and until they are answered; as many of its unread answers.
    pub max_waiting_bytes: Option<usize>,
    /// Models that it uses, in memory at once.
    pub max_resident_models: Option<usize>,
}

/// Frames over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            is_one_of_many: false,
            is_admin: true,
            models: Models::All,
            max_priority: Priority::High,
            quotas: Quotas::default(),
        }
    }
}

impl Rights {
    /// The rights of somebody who has shown no key: to ask whether the server lives.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self {
            is_one_of_many: true,
            is_admin: false,
            models: Models::Only(BTreeSet::new()),
            max_priority: Priority::Normal,
            quotas: Quotas::default(),
        }
    }

    /// Whether it may have frames of a model.
    #[must_use]
    pub fn may_use(&self, model: &ModelId) -> bool {
        match &self.models {
            Models::All => true,
            Models::Only(models) => models.contains(model),
        }
    }

    /// Whether it may know that a model exists.
    #[must_use]
    pub fn may_see(&self, model: &ModelId) -> bool {
        self.is_admin || self.may_use(model)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lipsync_registry::RegistryError;

    use super::*;
    use crate::{caller::Caller, error::ServeError};

    fn caller(rights: Rights) -> Caller {
        Caller {
            rights: Arc::new(rights),
            ..Caller::default()
        }
    }

    fn id(id: &str) -> ModelId {
        ModelId::new(id).unwrap()
    }

    #[test]
    fn a_server_without_tenants_allows_everything() {
        let anybody = Caller::default();
        assert!(anybody.check_model(&id("a")).is_ok());
        assert!(anybody.check_admin().is_ok());
        assert!(anybody.check_priority(Priority::High).is_ok());
    }

    #[test]
    fn a_model_of_others_is_refused_in_the_words_for_one_that_does_not_exist() {
        let rights = Rights {
            models: Models::Only([id("a")].into()),
            is_admin: false,
            ..Rights::default()
        };
        let theirs = caller(rights.clone());
        assert!(theirs.check_model(&id("a")).is_ok());
        let unknown = ServeError::from(RegistryError::UnknownModel { id: id("b") });
        for refused in [theirs.check_model(&id("b")), theirs.check_visible(&id("b"))] {
            assert_eq!(refused.unwrap_err().to_string(), unknown.to_string());
        }
        let admin = caller(Rights {
            is_admin: true,
            ..rights
        });
        assert!(admin.check_visible(&id("b")).is_ok());
        assert!(admin.check_model(&id("b")).is_err());
    }

    #[test]
    fn a_level_above_the_tenants_is_refused_with_both() {
        let low = caller(Rights {
            max_priority: Priority::Low,
            ..Rights::default()
        });
        assert!(low.check_priority(Priority::Low).is_ok());
        let refused = low.check_priority(Priority::High).unwrap_err().to_string();
        assert!(refused.contains("at most low") && refused.contains("found high"));
    }
}
