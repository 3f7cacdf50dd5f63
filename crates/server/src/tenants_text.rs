//! What `check-config` says of tenants.

use std::{fmt, time::SystemTime};

use lipsync_server::{Config, tenants::Tenant};
use lipsync_serving::rights::{Models, Quotas};

/// Tenants beyond this many are only counted.
const MAX_TENANTS: usize = 100;
/// Frames a second of a model that does not say: most avatars were recorded so.
const USUAL_FPS: u32 = 25;

/// The tenants of a configuration, and what their settings mean.
pub struct TenantsText<'a>(pub &'a Config);

impl fmt::Display for TenantsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        if let Some(exposure) = config.exposure() {
            writeln!(f, "  advice: {exposure}")?;
        }
        let tenants = config.tenants.list();
        if tenants.is_empty() {
            return Ok(());
        }
        writeln!(f, "  {} tenants:", tenants.len())?;
        for tenant in tenants.iter().take(MAX_TENANTS) {
            self.tenant(tenant, f)?;
        }
        if tenants.len() > MAX_TENANTS {
            writeln!(f, "  and {} more", tenants.len() - MAX_TENANTS)?;
        }
        if !tenants.iter().any(|tenant| tenant.rights.is_admin) {
            writeln!(
                f,
                "  advice: no tenant has admin: true, so nobody can load, unload or see statistics"
            )?;
        }
        Ok(())
    }
}

impl TenantsText<'_> {
    fn tenant(&self, tenant: &Tenant, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = &tenant.rights;
        let models = match &rights.models {
            Models::All => "all models".to_owned(),
            Models::Only(models) => {
                let ids: Vec<_> = models.iter().map(|id| id.as_str()).collect();
                ids.join(", ")
            }
        };
        let admin = if rights.is_admin { ", admin" } else { "" };
        writeln!(
            f,
            "  {}: {models}; {}; weight {} ({:.0} % of a busy server); {} by default, at most {}{admin}",
            tenant.id,
            keys(tenant),
            tenant.weight.get(),
            self.share(tenant),
            tenant.priority.name(),
            rights.max_priority.name(),
        )?;
        let quotas = in_words(&rights.quotas);
        if !quotas.is_empty() {
            writeln!(f, "    {quotas}")?;
        }
        for advice in self.advice(tenant) {
            writeln!(f, "    advice: {advice}")?;
        }
        Ok(())
    }

    /// Percent of the workers where all tenants want more than there is.
    fn share(&self, tenant: &Tenant) -> f64 {
        let tenants = self.0.tenants.list().iter();
        let all: f64 = tenants.map(|tenant| f64::from(tenant.weight.get())).sum();
        100.0 * f64::from(tenant.weight.get()) / all
    }

    fn advice(&self, tenant: &Tenant) -> Vec<String> {
        let mut advice = Vec::new();
        let quotas = &tenant.rights.quotas;
        let models = self.0.registry.models.iter();
        let mine = || {
            models
                .clone()
                .filter(|model| tenant.rights.may_use(&model.id))
        };
        let fps = mine().map(|model| model.fps.unwrap_or(USUAL_FPS)).max();
        if let (Some(rate), Some(fps)) = (quotas.frames, fps) {
            let paced = rate.per_second / fps;
            advice.push(format!(
                "sessions paced in real time at {fps} frames a second that frames_per_second is enough for: {paced}"
            ));
            let sessions = quotas.max_sessions.and_then(|n| u32::try_from(n).ok());
            if let Some(sessions) = sessions.filter(|&sessions| sessions > paced) {
                advice.push(format!(
                    "max_sessions is {sessions}: for all of them to be paced, frames_per_second must be {}",
                    sessions.saturating_mul(fps)
                ));
            }
        }
        let (n_mine, resident) = (mine().count(), quotas.max_resident_models);
        if let Some(resident) = resident.filter(|&resident| resident > n_mine) {
            advice.push(format!(
                "max_resident_models {resident} is never reached: the tenant may use {n_mine} models"
            ));
        }
        let now = SystemTime::now();
        let is_good = |expires: Option<SystemTime>| expires.is_none_or(|expires| expires > now);
        if !tenant.keys.is_empty() && !tenant.keys.iter().any(|key| is_good(key.expires)) {
            advice.push("all of its keys have expired: add a new one".to_owned());
        }
        advice
    }
}

fn keys(tenant: &Tenant) -> String {
    let names: Vec<_> = tenant.keys.iter().map(|key| key.name.as_str()).collect();
    match names.as_slice() {
        [] => "no keys".to_owned(),
        [one] => format!("key {one}"),
        many => format!("keys {}", many.join(", ")),
    }
}

fn in_words(quotas: &Quotas) -> String {
    let mut parts = Vec::new();
    if let Some(rate) = quotas.frames {
        parts.push(format!(
            "{} frames/s, {} at once",
            rate.per_second, rate.burst
        ));
    }
    let counted = [
        (quotas.max_sessions, "sessions"),
        (quotas.max_requests, "requests"),
        (
            quotas.max_waiting_bytes.map(|bytes| bytes >> 20),
            "MiB waiting",
        ),
        (quotas.max_resident_models, "models in memory"),
    ];
    for (limit, what) in counted {
        parts.extend(limit.map(|limit| format!("{limit} {what}")));
    }
    if parts.is_empty() {
        return String::new();
    }
    format!("at most {}", parts.join(", "))
}
