//! What the settings of one tenant mean.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use lipsync_core::{Foreign, ModelId, saturate::u32_of};
use lipsync_serving::rights::{Models, Quotas};

use crate::tenants::{Tenant, Tenants};

/// Frames a second of a model that does not say: most avatars were recorded so.
const USUAL_FPS: u32 = 25;
/// Part of the time in which somebody speaks in a conversation: 4 s in 15 s.
const SPEAKING: f64 = 4.0 / 15.0;
/// Part of their time in which workers may be busy for 95 % of answers to come within 200 ms. Measured on the demo
/// avatars: 0.77.
const BUSY: f64 = 0.75;

/// The server that a tenant is one of several on.
pub struct Machine<'a> {
    /// Models that there are, with their frames a second where they say.
    pub models: Vec<(ModelId, Option<u32>)>,
    /// Workers at most.
    pub n_workers: usize,
    /// Sessions that may be open, all tenants together.
    pub max_sessions: usize,
    /// Unary calls that may be in progress, all tenants together.
    pub max_requests: usize,
    /// Models that may be in memory, all tenants together.
    pub max_models: usize,
    /// What a frame of a model costs, where that is known.
    pub cost: &'a dyn Fn(&ModelId) -> Option<Cost>,
}

/// Time of a worker for a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// How long.
    pub per_frame: Duration,
    /// Whether it was measured; otherwise it is estimated by the work of the network.
    pub is_measured: bool,
}

/// How many conversations at once a tenant can have: at 25 frames a second or what its model has, with somebody speaking for
/// 4 s in every 15 s.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversations {
    /// While no other tenant wants anything.
    pub alone: u32,
    /// While all of them want more than there is.
    pub at_least: u32,
    /// The most costly model of the tenant, which they are counted for.
    pub model: ModelId,
    /// Its cost.
    pub cost: Cost,
    /// What bounds the first number: a key of the configuration, or the workers.
    pub bound: &'static str,
}

/// What the settings of one tenant mean.
#[derive(Debug, Clone)]
pub struct Meaning {
    /// Its id.
    pub tenant: String,
    /// Models that it may use, of those that there are.
    pub models: Vec<ModelId>,
    /// Rights, keys and weight, in words.
    pub rights: String,
    /// Quotas in words; empty: none.
    pub quotas: String,
    /// How many conversations it can have, where what a frame costs is known.
    pub conversations: Option<Conversations>,
    /// Settings that cannot all have an effect, a sentence each.
    pub contradictions: Vec<String>,
    /// What would be better, a sentence each.
    pub advice: Vec<String>,
}

impl Meaning {
    /// Of one of these tenants on this machine.
    #[must_use]
    pub fn of(tenant: &Tenant, tenants: &Tenants, machine: &Machine<'_>) -> Self {
        let mine: Vec<_> = machine
            .models
            .iter()
            .filter(|(id, _)| tenant.rights.may_use(id))
            .collect();
        let fps = mine.iter().map(|(_, fps)| fps.unwrap_or(USUAL_FPS)).max();
        let share = share(tenant, tenants);
        let quotas = &tenant.rights.quotas;
        Self {
            tenant: tenant.id.as_str().to_owned(),
            models: mine.iter().map(|(id, _)| id.clone()).collect(),
            rights: rights(tenant, share),
            quotas: in_words(quotas),
            conversations: conversations(quotas, &mine, share, machine),
            contradictions: contradictions(tenant, (mine.len(), fps), machine, tenants.is_empty()),
            advice: advice(quotas, fps),
        }
    }
}

/// The part of the workers that it has where all tenants want more than there is.
fn share(tenant: &Tenant, tenants: &Tenants) -> f64 {
    let all: f64 = tenants
        .list()
        .iter()
        .map(|tenant| f64::from(tenant.weight.get()))
        .sum();
    match all > 0.0 {
        true => f64::from(tenant.weight.get()) / all,
        false => 1.0,
    }
}

fn rights(tenant: &Tenant, share: f64) -> String {
    let rights = &tenant.rights;
    let models = match &rights.models {
        Models::All => "all models".to_owned(),
        Models::Only(models) => {
            let ids: Vec<_> = models.iter().map(ModelId::as_str).collect();
            ids.join(", ")
        }
    };
    let admin = if rights.is_admin { ", admin" } else { "" };
    format!(
        "{models}; {}; weight {} ({:.0} % of a busy server); {} by default{}, at most {}{admin}",
        keys(tenant),
        tenant.weight.get(),
        100.0 * share,
        tenant.priority.name(),
        levels_of_models(tenant),
        rights.max_priority.name(),
    )
}

/// Default levels of single models, in brackets.
fn levels_of_models(tenant: &Tenant) -> String {
    let defaults = tenant.defaults.iter();
    let levels = defaults.filter_map(|(id, of)| Some(format!("{} for {id}", of.priority?.name())));
    let levels: Vec<_> = levels.collect();
    match levels.is_empty() {
        true => String::new(),
        false => format!(" ({})", levels.join(", ")),
    }
}

fn keys(tenant: &Tenant) -> String {
    let names: Vec<_> = tenant.keys.iter().map(|key| key.name.as_str()).collect();
    let keys = match names.as_slice() {
        [] => "no keys".to_owned(),
        [one] => format!("key {one}"),
        many => format!("keys {}", many.join(", ")),
    };
    match tenant.certificates.as_slice() {
        [] => keys,
        // A name may hold anything but control characters.
        names => format!("{keys}, certificates {:?}", Foreign(&names.join(", "))),
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

/// Counted for the most costly model whose cost is known.
fn conversations(
    quotas: &Quotas,
    mine: &[&(ModelId, Option<u32>)],
    share: f64,
    machine: &Machine<'_>,
) -> Option<Conversations> {
    let costs = mine.iter().filter_map(|(id, fps)| {
        let cost = (machine.cost)(id)?;
        let of_one = f64::from(fps.unwrap_or(USUAL_FPS)) * SPEAKING;
        Some((id, cost, of_one, cost.per_frame.as_secs_f64() * of_one))
    });
    let (model, cost, of_one, busy) = costs.max_by(|a, b| a.3.total_cmp(&b.3))?;
    let of_workers = BUSY * machine.n_workers as f64 / busy.max(1e-9);
    let of_rate = quotas
        .frames
        .map(|rate| f64::from(rate.per_second) / of_one);
    let of_sessions = quotas.max_sessions.map(|n| n as f64);
    let bounds = [
        (Some(of_workers), "the workers"),
        (of_rate, "frames_per_second"),
        (of_sessions, "max_sessions"),
        (Some(machine.max_sessions as f64), "session.max_sessions"),
    ];
    let known = bounds.into_iter().filter_map(|(n, what)| Some((n?, what)));
    let (alone, bound) = known.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Conversations {
        alone: whole(alone),
        at_least: whole(alone.min(of_workers * share)),
        model: model.clone(),
        cost,
        bound,
    })
}

fn whole(n: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and the number is not negative"
    )]
    let n = n as u32;
    n
}

fn contradictions(
    tenant: &Tenant,
    (n_models, fps): (usize, Option<u32>),
    machine: &Machine<'_>,
    is_everybody: bool,
) -> Vec<String> {
    let quotas = &tenant.rights.quotas;
    let mut found = Vec::new();
    if n_models == 0 {
        found.push(
            "it may use none of the models that there are, so it can have no frames".to_owned(),
        );
    }
    if quotas.max_sessions == Some(0) && quotas.max_requests == Some(0) {
        found.push("max_sessions and max_requests are 0, so it can have no frames".to_owned());
    }
    if let (Some(rate), Some(fps)) = (quotas.frames, fps)
        && rate.per_second < fps
    {
        let rate = rate.per_second;
        found.push(format!(
            "frames_per_second {rate} is less than the {fps} of one session paced in real time, so none can open"
        ));
    }
    let limits = [
        (
            "max_sessions",
            quotas.max_sessions,
            "session.max_sessions",
            machine.max_sessions,
        ),
        (
            "max_requests",
            quotas.max_requests,
            "server.queue_size and workers",
            machine.max_requests,
        ),
        (
            "max_resident_models",
            quotas.max_resident_models,
            "capacity.max_models",
            machine.max_models,
        ),
    ];
    for (key, limit, of_all, most) in limits {
        if let Some(limit) = limit.filter(|&limit| limit > most) {
            found.push(format!(
                "{key} {limit} is never reached: {of_all} allow {most} for all tenants"
            ));
        }
    }
    if let Some(resident) = quotas.max_resident_models.filter(|&n| n > n_models) {
        found.push(format!(
            "max_resident_models {resident} is never reached: the tenant may use {n_models} models"
        ));
    }
    if !is_everybody {
        found.extend(of_keys(tenant));
    }
    found
}

fn of_keys(tenant: &Tenant) -> Option<String> {
    let now = SystemTime::now();
    let is_good = |expires: Option<SystemTime>| expires.is_none_or(|expires| expires > now);
    if tenant.keys.is_empty() && !tenant.certificates.is_empty() {
        return None;
    }
    if tenant.keys.is_empty() {
        return Some("it has no keys, so nobody can call in its name".to_owned());
    }
    let has_good = tenant.keys.iter().any(|key| is_good(key.expires));
    (!has_good).then(|| "all of its keys have expired: add a new one".to_owned())
}

fn advice(quotas: &Quotas, fps: Option<u32>) -> Vec<String> {
    let mut advice = Vec::new();
    let (Some(rate), Some(fps)) = (quotas.frames, fps) else {
        return advice;
    };
    let paced = rate.per_second / fps.max(1);
    advice.push(format!(
        "sessions paced in real time at {fps} frames a second that frames_per_second is enough for: {paced}"
    ));
    let sessions = quotas.max_sessions.map(u32_of);
    if let Some(sessions) = sessions.filter(|&sessions| sessions > paced) {
        advice.push(format!(
            "max_sessions is {sessions}: for all of them to be paced, frames_per_second must be {}",
            sessions.saturating_mul(fps)
        ));
    }
    advice
}

impl fmt::Display for Conversations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.cost.per_frame.as_secs_f64() * 1e3;
        let basis = match self.cost.is_measured {
            true => "measured",
            false => "estimated by its work, not measured",
        };
        write!(
            f,
            "about {} conversations at once alone ({}), {} on a busy server; {} takes {ms:.1} ms a frame ({basis})",
            self.alone, self.bound, self.at_least, self.model
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    fn meanings(tenants: &str, cost_ms: Option<u64>) -> Vec<Meaning> {
        let text = format!("models: {{a: {{path: /a}}, b: {{path: /b}}}}\ntenants:\n{tenants}");
        let config = Config::parse(&text, Path::new("c"), []).unwrap();
        let cost = |id: &ModelId| {
            let factor = if id.as_str() == "b" { 2 } else { 1 };
            cost_ms.map(|ms| Cost {
                per_frame: Duration::from_millis(factor * ms),
                is_measured: false,
            })
        };
        let machine = Machine {
            models: config
                .registry
                .models
                .iter()
                .map(|m| (m.id.clone(), m.fps))
                .collect(),
            n_workers: 4,
            max_sessions: 100,
            max_requests: 116,
            max_models: 100,
            cost: &cost,
        };
        let list = config.tenants.list().iter();
        list.map(|tenant| Meaning::of(tenant, &config.tenants, &machine))
            .collect()
    }

    const KEY: &str =
        "keys: {main: {sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad}}";

    #[test]
    fn conversations_are_counted_by_workers_shares_and_quotas() {
        let tenants = format!(
            "  x: {{weight: 3, {KEY}}}\n  y: {{models: [a], max_sessions: 5}}\n  z: {{frames_per_second: 40}}\n"
        );
        let meanings = meanings(&tenants, Some(10));
        let told = |n: usize| meanings[n].conversations.clone().unwrap();
        // 0.75 of four workers, and 20 ms for each of 6.67 frames a second.
        assert_eq!(
            (told(0).alone, told(0).at_least, told(0).bound),
            (22, 13, "the workers")
        );
        assert_eq!(told(0).model.as_str(), "b");
        assert_eq!(
            (told(1).alone, told(1).at_least, told(1).bound),
            (5, 5, "max_sessions")
        );
        assert_eq!((told(2).alone, told(2).bound), (6, "frames_per_second"));
        let text = told(0).to_string();
        for words in [
            "about 22 conversations",
            "13 on a busy server",
            "b takes 20.0 ms",
            "not measured",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        let tenants = format!(
            "  x: {{max_sessions: 0, max_requests: 0, {KEY}}}\n  \
             y: {{models: [a], frames_per_second: 10, burst_frames: 64, max_sessions: 500, max_resident_models: 3}}\n"
        );
        let meanings = meanings(&tenants, None);
        assert!(meanings[0].conversations.is_none());
        let all = |n: usize| meanings[n].contradictions.join("\n");
        assert!(
            all(0).contains("max_sessions and max_requests are 0"),
            "{}",
            all(0)
        );
        for words in [
            "frames_per_second 10 is less than the 25",
            "max_sessions 500 is never reached: session.max_sessions allow 100",
            "max_resident_models 3 is never reached: the tenant may use 1",
            "it has no keys",
        ] {
            assert!(all(1).contains(words), "{words} in {}", all(1));
        }
        assert_eq!(
            meanings[1].quotas,
            "at most 10 frames/s, 64 at once, 500 sessions, 3 models in memory"
        );
    }
}
