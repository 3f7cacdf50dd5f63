//! Which models each tenant uses, and the bound on how many of them are in memory.
//!
//! A tenant that wants one more than its quota gives up the one that it has used longest ago and does not use now. That
//! one leaves memory, unless another tenant uses it as well.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use lipsync_core::{ModelId, TenantId, sync::lock};

use crate::{
    caller::Caller,
    error::{RETRY_AFTER, ServeError},
};

/// The key of the quota.
const MAX_RESIDENT: &str = "max_resident_models";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Residents(Mutex<HashMap<TenantId, Vec<Resident>>>);

/// A model of a tenant; those used longest ago come first.
#[derive(Debug)]
struct Resident {
    model: ModelId,
    n_uses: usize,
}

/// A tenant's use of a model, until it is dropped.
#[derive(Debug)]
pub(crate) struct InUse {
    residents: Arc<Residents>,
    tenant: TenantId,
    model: ModelId,
}

impl Residents {
    /// Counts a use; models that have to leave memory before it come with it.
    ///
    /// # Errors
    /// [`ServeError::OverQuota`] where all that the tenant may have in memory are in use.
    pub(crate) fn begin(
        self: &Arc<Self>,
        caller: &Caller,
        model: &ModelId,
        is_resident: impl Fn(&ModelId) -> bool,
    ) -> Result<(InUse, Vec<ModelId>), ServeError> {
        let mut tenants = self.lock();
        let own = tenants.entry(caller.tenant.clone()).or_default();
        let mut leaving = Vec::new();
        let known = own.iter().position(|resident| resident.model == *model);
        let mut resident = match known {
            Some(place) => own.remove(place),
            None => {
                let limit = caller.rights.quotas.max_resident_models;
                // What others or the server's own limits have displaced does not count.
                own.retain(|resident| resident.n_uses > 0 || is_resident(&resident.model));
                while limit.is_some_and(|limit| own.len() >= limit) {
                    let Some(idle) = own.iter().position(|resident| resident.n_uses == 0) else {
                        return Err(over_quota(caller, limit.unwrap_or_default()));
                    };
                    leaving.push(own.remove(idle).model);
                }
                Resident {
                    model: model.clone(),
                    n_uses: 0,
                }
            }
        };
        resident.n_uses += 1;
        own.push(resident);
        let is_wanted = |model: &ModelId| {
            let mut all = tenants.values().flatten();
            all.any(|resident| resident.model == *model)
        };
        leaving.retain(|model| !is_wanted(model));
        let in_use = InUse {
            residents: Arc::clone(self),
            tenant: caller.tenant.clone(),
            model: model.clone(),
        };
        Ok((in_use, leaving))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Vec<Resident>>> {
        // Every change leaves it whole.
        lock(&self.0)
    }
}

fn over_quota(caller: &Caller, limit: usize) -> ServeError {
    ServeError::OverQuota {
        tenant: caller.tenant.clone(),
        quota: MAX_RESIDENT,
        limit: limit.to_string(),
        retry: Some(RETRY_AFTER),
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut tenants = self.residents.lock();
        let own = tenants.get_mut(&self.tenant).into_iter().flatten();
        for resident in own.filter(|resident| resident.model == self.model) {
            resident.n_uses = resident.n_uses.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::{Quotas, Rights};

    fn caller(tenant: &str, limit: usize) -> Caller {
        Caller {
            tenant: TenantId::new(tenant),
            rights: Arc::new(Rights {
                quotas: Quotas {
                    max_resident_models: Some(limit),
                    ..Quotas::default()
                },
                ..Rights::default()
            }),
            ..Caller::default()
        }
    }

    fn id(id: &str) -> ModelId {
        ModelId::new(id).unwrap()
    }

    fn begin(
        residents: &Arc<Residents>,
        caller: &Caller,
        model: &str,
    ) -> Result<(InUse, Vec<ModelId>), ServeError> {
        residents.begin(caller, &id(model), |_| true)
    }

    #[test]
    fn one_more_displaces_the_one_used_longest_ago_that_is_idle() {
        let residents = Arc::new(Residents::default());
        let a = caller("a", 2);
        let (one, _) = begin(&residents, &a, "one").unwrap();
        drop(begin(&residents, &a, "two").unwrap());
        let (three, leaving) = begin(&residents, &a, "three").unwrap();
        assert_eq!(leaving, [id("two")], "one is in use");
        let refused = begin(&residents, &a, "two").unwrap_err();
        assert!(refused.to_string().contains("max_resident_models"));
        assert!(begin(&residents, &a, "one").unwrap().1.is_empty());
        drop((one, three));
        let (_two, leaving) = begin(&residents, &a, "two").unwrap();
        assert_eq!(leaving, [id("three")], "one was asked for later");
    }

    #[test]
    fn a_model_that_others_use_stays() {
        let residents = Arc::new(Residents::default());
        let (a, b) = (caller("a", 1), caller("b", 1));
        drop(begin(&residents, &a, "one").unwrap());
        let theirs = begin(&residents, &b, "one").unwrap();
        assert!(begin(&residents, &a, "two").unwrap().1.is_empty());
        drop(theirs);
        assert_eq!(begin(&residents, &b, "two").unwrap().1, [id("one")]);
    }

    #[test]
    fn what_the_server_has_displaced_does_not_count() {
        let residents = Arc::new(Residents::default());
        let a = caller("a", 1);
        drop(begin(&residents, &a, "one").unwrap());
        let begun = residents.begin(&a, &id("two"), |_| false);
        assert!(begun.unwrap().1.is_empty());
    }
}
