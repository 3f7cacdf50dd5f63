//! Who calls, as far as the server can tell, and how urgently.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lipsync_core::{ModelId, Priority, TenantId, Weight};
use lipsync_registry::RegistryError;

use crate::{error::ServeError, peer::Peer, rights::Rights, telemetry::Tally};

/// Whose call it is, how urgent it is, and how long somebody waits for it.
///
/// The edge makes one for each call, from its headers and its connection. There is no other source of a
/// deadline, a level of urgency or a peer.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Who pays for it.
    pub tenant: TenantId,
    /// What that tenant gets of the workers beside others.
    pub weight: Weight,
    /// What it may ask for, and how much of the server it may hold.
    pub rights: Arc<Rights>,
    /// The level of work that asks for none itself.
    pub priority: Priority,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// Longest time in the queue.
    pub max_wait: Option<Duration>,
    /// Whether its frames are to share no batch with those of others.
    pub runs_alone: bool,
    /// Where the call came from.
    pub peer: Peer,
    /// What the call comes to, filled in on its way.
    pub tally: Arc<Tally>,
}

impl Caller {
    /// Somebody at this peer of whom nothing else is known.
    #[must_use]
    pub fn at(peer: Peer) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }
}

impl Caller {
    /// Refuses a model of other tenants as if it did not exist.
    ///
    /// # Errors
    /// [`ServeError::UnknownModel`].
    pub fn check_model(&self, model: &ModelId) -> Result<(), ServeError> {
        known_if(self.rights.may_use(model), model)
    }

    /// The same for questions about a model, which admins may ask about all of them.
    ///
    /// # Errors
    /// [`ServeError::UnknownModel`].
    pub fn check_visible(&self, model: &ModelId) -> Result<(), ServeError> {
        known_if(self.rights.may_see(model), model)
    }

    /// Refuses what only an admin may do.
    ///
    /// # Errors
    /// [`ServeError::PermissionDenied`].
    pub fn check_admin(&self) -> Result<(), ServeError> {
        if self.rights.is_admin {
            return Ok(());
        }
        Err(ServeError::PermissionDenied {
            reason: "only a tenant with admin: true may do this".into(),
        })
    }

    /// Who takes turns with others where work waits: its tenant. Where there are no tenants, it is the address, if
    /// addresses are told apart; else one address with much work would keep all others waiting for the end of it.
    pub(crate) fn takes_turns_as(&self, by_peer: bool) -> TenantId {
        if by_peer && !self.rights.is_one_of_many {
            return TenantId::new(&self.peer.to_string());
        }
        self.tenant.clone()
    }

    /// The same, where it can be told from others.
    pub(crate) fn told_apart_as(&self, by_peer: bool) -> Option<TenantId> {
        (by_peer || self.rights.is_one_of_many).then(|| self.takes_turns_as(by_peer))
    }

    /// Refuses a level of urgency above the tenant's.
    ///
    /// # Errors
    /// [`ServeError::PermissionDenied`].
    pub fn check_priority(&self, priority: Priority) -> Result<Priority, ServeError> {
        let max = self.rights.max_priority;
        if priority <= max {
            return Ok(priority);
        }
        let (max, found) = (max.name(), priority.name());
        Err(ServeError::PermissionDenied {
            reason: format!("priority: at most {max} (the tenant's max_priority), found {found}"),
        })
    }
}

fn known_if(is_known: bool, model: &ModelId) -> Result<(), ServeError> {
    if is_known {
        return Ok(());
    }
    let id = model.clone();
    Err(RegistryError::UnknownModel { id }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_where_no_tenants_do() {
        let at = |address: &str| Peer::new(address.parse().unwrap());
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| Caller::at(at(address)));
        assert_ne!(one.takes_turns_as(true), other.takes_turns_as(true));
        assert_eq!(one.takes_turns_as(true).as_str(), "192.0.2.1");
        // Behind a proxy.
        assert_eq!(one.takes_turns_as(false), other.takes_turns_as(false));
        let of_tenant = Caller {
            tenant: TenantId::new("a"),
            rights: Arc::new(Rights {
                is_one_of_many: true,
                ..Rights::default()
            }),
            ..one
        };
        assert_eq!(of_tenant.takes_turns_as(true).as_str(), "a");
    }
}
