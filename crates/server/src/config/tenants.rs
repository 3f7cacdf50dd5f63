//! `tenants.<id>`: who may call, and what each of them may have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::Arc,
    time::SystemTime,
};

use lipsync_core::{
    Foreign, ModelId, Priority, TenantId, Weight,
    saturate::{u32_of, u64_of, usize_of},
};
use lipsync_registry::ModelConfig;
use lipsync_serving::rights::{FrameRate, Models, Quotas, Rights};
use serde::Deserialize;

use super::{
    BadValue, RequestLimits, ServerLimits, SessionLimits,
    date::{parse_date, shown_date},
    output::RawFormat,
    section::{Heat, in_range, mebibytes},
    text::{Text, null_as_default},
};
use crate::tenants::{Digest, Key, MAX_NAME_BYTES, ModelDefaults, Tenant, Tenants};

/// An id may have this many characters.
const MAX_ID_CHARS: usize = 64;
/// Frames a second that no machine reaches.
const MAX_RATE: u64 = 1_000_000;
/// Places that no server has.
const MAX_PLACES: u64 = 1_000_000;

/// `tenants.<id>`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTenant {
    #[serde(deserialize_with = "null_as_default")]
    keys: BTreeMap<String, RawKey>,
    certificates: Option<Vec<String>>,
    models: Option<Vec<String>>,
    weight: Option<u32>,
    default_priority: Option<RawPriority>,
    max_priority: Option<RawPriority>,
    admin: Option<bool>,
    frames_per_second: Option<u32>,
    burst_frames: Option<u32>,
    max_sessions: Option<u32>,
    max_requests: Option<u32>,
    max_waiting_mb: Option<u32>,
    max_resident_models: Option<u32>,
    #[serde(deserialize_with = "null_as_default")]
    defaults: BTreeMap<String, RawDefaults>,
}

/// `tenants.<id>.keys.<id>`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawKey {
    sha256: Option<Text>,
    expires: Option<Text>,
}

/// `tenants.<id>.defaults.<id>`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDefaults {
    format: Option<RawFormat>,
    jpeg_quality: Option<u32>,
    priority: Option<RawPriority>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawPriority {
    High,
    Normal,
    Low,
}

impl From<RawPriority> for Priority {
    fn from(raw: RawPriority) -> Self {
        match raw {
            RawPriority::High => Self::High,
            RawPriority::Normal => Self::Normal,
            RawPriority::Low => Self::Low,
        }
    }
}

/// What of the configuration tenants have to go with.
pub(super) struct Elsewhere<'a> {
    pub(super) models: &'a [ModelConfig],
    pub(super) server: &'a ServerLimits,
    pub(super) requests: &'a RequestLimits,
    pub(super) session: &'a SessionLimits,
    /// Whether a port asks its clients for certificates.
    pub(super) asks_for_certificates: bool,
    pub(super) now: SystemTime,
}

/// Checks all tenants, and that no two have the same key or certificate. What is only odd goes into `warnings`.
pub(super) fn check(
    raw: BTreeMap<String, RawTenant>,
    elsewhere: &Elsewhere<'_>,
    warnings: &mut Vec<String>,
) -> Result<Tenants, BadValue> {
    let mut tenants = Vec::with_capacity(raw.len());
    let mut owners: HashMap<Digest, String> = HashMap::new();
    let mut named: HashMap<String, String> = HashMap::new();
    for (id, tenant) in raw {
        let at = At(format!("tenants.{id}"));
        let tenant = tenant.check(&id, &at, elsewhere)?;
        for key in &tenant.keys {
            let path = format!("{}.keys.{}", at.0, key.name);
            if let Some(other) = owners.insert(key.digest, path.clone()) {
                let message =
                    format!("this is the key of {other}, too: a key belongs to one tenant");
                return Err(At(path).bad("sha256", message));
            }
        }
        for name in &tenant.certificates {
            if let Some(other) = named.insert(name.clone(), at.0.clone()) {
                let name = Foreign(name);
                let message = format!("{other} has {name:?}, too: a name belongs to one tenant");
                return Err(at.bad("certificates", message));
            }
        }
        tenant.warn(&at, elsewhere, warnings);
        tenants.push(tenant);
    }
    if !tenants.is_empty() {
        let is_unused = |model: &&ModelConfig| {
            let mut rights = tenants.iter().map(|tenant: &Tenant| &tenant.rights);
            !rights.any(|rights| rights.may_use(&model.id))
        };
        for model in elsewhere.models.iter().filter(is_unused) {
            warnings.push(format!("models.{}: no tenant may use it", model.id));
        }
    }
    Ok(Tenants::new(tenants))
}

/// Where a tenant or a key of one is.
struct At(String);

impl At {
    fn bad(&self, key: &str, message: impl Into<String>) -> BadValue {
        BadValue {
            key: format!("{}.{key}", self.0),
            message: message.into(),
        }
    }

    fn in_range(
        &self,
        key: &str,
        value: Option<u32>,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, BadValue> {
        let key = format!("{}.{key}", self.0);
        let checked = value.map(|value| in_range(&key, value.into(), range));
        checked.transpose()
    }
}

impl At {
    fn check_level(&self, key: &str, level: Priority, highest: Priority) -> Result<(), BadValue> {
        if level <= highest {
            return Ok(());
        }
        let (level, highest) = (level.name(), highest.name());
        let message =
            format!("expected at most {highest} (max_priority of this tenant), found {level}");
        Err(self.bad(key, message))
    }
}

impl RawTenant {
    /// Its keys, and when they take effect.
    pub(super) const KEYS: &[(&str, Heat)] = &[
        ("tenants.<id>.keys.<id>.sha256", Heat::Hot),
        ("tenants.<id>.keys.<id>.expires", Heat::Hot),
        ("tenants.<id>.certificates", Heat::Hot),
        ("tenants.<id>.models", Heat::Hot),
        ("tenants.<id>.weight", Heat::Hot),
        ("tenants.<id>.default_priority", Heat::Hot),
        ("tenants.<id>.max_priority", Heat::Hot),
        ("tenants.<id>.admin", Heat::Hot),
        ("tenants.<id>.frames_per_second", Heat::Hot),
        ("tenants.<id>.burst_frames", Heat::Hot),
        ("tenants.<id>.max_sessions", Heat::Hot),
        ("tenants.<id>.max_requests", Heat::Hot),
        ("tenants.<id>.max_waiting_mb", Heat::Hot),
        ("tenants.<id>.max_resident_models", Heat::Hot),
        ("tenants.<id>.defaults.<id>.format", Heat::Hot),
        ("tenants.<id>.defaults.<id>.jpeg_quality", Heat::Hot),
        ("tenants.<id>.defaults.<id>.priority", Heat::Hot),
    ];

    fn check(self, id: &str, at: &At, elsewhere: &Elsewhere<'_>) -> Result<Tenant, BadValue> {
        check_id(id, at)?;
        let weight = at.in_range("weight", self.weight, 1..=Weight::MAX.into())?;
        let (priority, max_priority) = self.priorities(at)?;
        let models = match &self.models {
            None => Models::All,
            Some(ids) => Models::Only(models(ids, at, elsewhere.models)?),
        };
        let rights = Rights {
            is_one_of_many: true,
            is_admin: self.admin.unwrap_or(false),
            models,
            max_priority,
            quotas: self.quotas(at, elsewhere)?,
        };
        Ok(Tenant {
            id: TenantId::new(id),
            weight: weight
                .and_then(|w| Weight::new(u32_of(w)))
                .unwrap_or_default(),
            priority,
            defaults: defaults(&self.defaults, at, &rights, elsewhere.models)?,
            rights: Arc::new(rights),
            keys: keys(self.keys, at)?,
            certificates: certificates(self.certificates.unwrap_or_default(), at)?,
        })
    }

    fn priorities(&self, at: &At) -> Result<(Priority, Priority), BadValue> {
        let max = self.max_priority.map(Priority::from);
        let default = self.default_priority.map(Priority::from);
        // A "VIP" is a tenant whose default is high; one whose limit is low has that as its default.
        let highest = max.unwrap_or(default.unwrap_or_default().max(Priority::Normal));
        let level = default.unwrap_or(Priority::Normal.min(highest));
        at.check_level("default_priority", level, highest)?;
        Ok((level, highest))
    }

    fn quotas(&self, at: &At, elsewhere: &Elsewhere<'_>) -> Result<Quotas, BadValue> {
        let places = |key, value| {
            let places = at.in_range(key, value, 0..=MAX_PLACES)?;
            Ok(places.map(usize_of))
        };
        let waiting = at.in_range("max_waiting_mb", self.max_waiting_mb, 1..=1_048_576)?;
        let waiting = waiting.map(mebibytes);
        let largest = elsewhere.server.max_message_bytes;
        if let Some(waiting) = waiting.filter(|&waiting| waiting < largest) {
            let message = format!(
                "expected at least {} (server.max_message_size_mb: the largest request), found {}",
                largest >> 20,
                waiting >> 20
            );
            return Err(at.bad("max_waiting_mb", message));
        }
        let resident = at.in_range(
            "max_resident_models",
            self.max_resident_models,
            1..=MAX_PLACES,
        )?;
        Ok(Quotas {
            frames: self.frame_rate(at, elsewhere)?,
            max_sessions: places("max_sessions", self.max_sessions)?,
            max_requests: places("max_requests", self.max_requests)?,
            max_waiting_bytes: waiting,
            max_resident_models: resident.map(usize_of),
        })
    }

    fn frame_rate(
        &self,
        at: &At,
        elsewhere: &Elsewhere<'_>,
    ) -> Result<Option<FrameRate>, BadValue> {
        let largest = u64_of(elsewhere.requests.max_batch_frames);
        let burst = at.in_range("burst_frames", self.burst_frames, 1..=MAX_RATE)?;
        let rate = at.in_range("frames_per_second", self.frames_per_second, 1..=MAX_RATE)?;
        let Some(rate) = rate else {
            let message = "goes with frames_per_second, which is not there";
            return burst.map_or(Ok(None), |_| Err(at.bad("burst_frames", message)));
        };
        // Two seconds, and no less than a call may ask for.
        let burst = burst.unwrap_or((2 * rate).max(largest));
        if burst < largest {
            let message = format!(
                "expected at least {largest} (server.max_batch_frames: the largest request), found {burst}"
            );
            return Err(at.bad("burst_frames", message));
        }
        Ok(Some(FrameRate {
            per_second: u32_of(rate),
            burst: u32_of(burst),
        }))
    }
}

fn check_id(id: &str, at: &At) -> Result<(), BadValue> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=MAX_ID_CHARS).contains(&id.len()) && id.chars().all(is_good) {
        return Ok(());
    }
    Err(BadValue {
        key: at.0.clone(),
        message: format!(
            "expected an id of 1 to {MAX_ID_CHARS} letters, digits, '.', '_' and '-', found {:?}",
            Foreign(id)
        ),
    })
}

fn models(
    ids: &[String],
    at: &At,
    configured: &[ModelConfig],
) -> Result<BTreeSet<ModelId>, BadValue> {
    if ids.is_empty() {
        return Err(at.bad(
            "models",
            "expected at least one model; leave the key out for all",
        ));
    }
    let known = |id: &String| known_model(id, configured).map_err(|m| at.bad("models", m));
    ids.iter().map(known).collect()
}

fn known_model(id: &str, configured: &[ModelConfig]) -> Result<ModelId, String> {
    let mut ids = configured.iter().map(|model| &model.id);
    if let Some(found) = ids.clone().find(|known| known.as_str() == id) {
        return Ok(found.clone());
    }
    let known: Vec<_> = ids.by_ref().take(8).map(ModelId::as_str).collect();
    let known = match known.as_slice() {
        [] => "there are none".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    Err(format!(
        "expected ids of models:, found {:?}; {known}",
        Foreign(id)
    ))
}

fn defaults(
    raw: &BTreeMap<String, RawDefaults>,
    at: &At,
    rights: &Rights,
    configured: &[ModelConfig],
) -> Result<BTreeMap<ModelId, ModelDefaults>, BadValue> {
    let mut defaults = BTreeMap::new();
    for (id, of_model) in raw {
        let key = format!("defaults.{id}");
        let model = known_model(id, configured).map_err(|message| at.bad(&key, message))?;
        if !rights.may_use(&model) {
            return Err(at.bad(&key, "the tenant may not use this model, by its models"));
        }
        let quality = format!("{key}.jpeg_quality");
        let quality = at.in_range(&quality, of_model.jpeg_quality, 1..=100)?;
        let quality = quality.and_then(|quality| u8::try_from(quality).ok());
        let priority = of_model.priority.map(Priority::from);
        if let Some(level) = priority {
            at.check_level(&format!("{key}.priority"), level, rights.max_priority)?;
        }
        let of_model = ModelDefaults {
            // Of JPEG, the quality is that of the merged defaults.
            encoding: of_model.format.map(|format| format.encoding(0)),
            jpeg_quality: quality,
            priority,
        };
        defaults.insert(model, of_model);
    }
    Ok(defaults)
}

fn keys(raw: BTreeMap<String, RawKey>, at: &At) -> Result<Vec<Key>, BadValue> {
    let mut keys = Vec::with_capacity(raw.len());
    for (name, key) in raw {
        let path = format!("keys.{name}");
        let Some(sha256) = &key.sha256 else {
            let message =
                "expected sha256; `lipsync-server keys new` prints a key and what to paste";
            return Err(at.bad(&path, message));
        };
        let digest = Digest::parse(sha256.trim()).ok_or_else(|| {
            let message = format!(
                "expected the SHA-256 of a key, 64 hexadecimal digits, found {} characters{}",
                sha256.trim().chars().count(),
                hash_advice(sha256.trim())
            );
            at.bad(&format!("{path}.sha256"), message)
        })?;
        let expires = key.expires.as_deref().map(parse_date).transpose();
        let expires = expires.map_err(|message| at.bad(&format!("{path}.expires"), message))?;
        keys.push(Key {
            name,
            digest,
            expires,
        });
    }
    Ok(keys)
}

fn certificates(names: Vec<String>, at: &At) -> Result<Vec<String>, BadValue> {
    let is_name = |name: &String| {
        (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
    };
    match names.iter().find(|name| !is_name(name)) {
        None => Ok(names),
        Some(name) => {
            let message = format!(
                "expected common names of certificates, 1 to {MAX_NAME_BYTES} bytes, found {:?}",
                Foreign(name)
            );
            Err(at.bad("certificates", message))
        }
    }
}

/// The text itself may be a key: it is not repeated.
fn hash_advice(text: &str) -> &'static str {
    if text.starts_with("lsk_") {
        "; this is a key itself: `lipsync-server keys hash` makes its SHA-256, and the key should be replaced"
    } else {
        "; `lipsync-server keys hash` makes it of a key"
    }
}

impl Tenant {
    /// Says what is no mistake, but probably not meant.
    fn warn(&self, at: &At, elsewhere: &Elsewhere<'_>, warnings: &mut Vec<String>) {
        let mut warn = |key: &str, sentence: String| {
            warnings.push(format!("{}{key}: {sentence}", at.0));
        };
        if self.keys.is_empty() && self.certificates.is_empty() {
            warn("", "has no keys, so nobody can call for it".into());
        }
        if !self.certificates.is_empty() && !elsewhere.asks_for_certificates {
            warn(
                ".certificates",
                "no port asks for certificates: set server.tls.client_ca".into(),
            );
        }
        for key in &self.keys {
            if let Some(expires) = key.expires.filter(|&expires| expires <= elsewhere.now) {
                let date = shown_date(expires);
                warn(&format!(".keys.{}", key.name), format!("expired on {date}"));
            }
        }
        let quotas = &self.rights.quotas;
        let most = elsewhere.session.max_sessions;
        if let Some(sessions) = quotas.max_sessions.filter(|&sessions| sessions > most) {
            warn(
                ".max_sessions",
                format!("{sessions} are never reached: session.max_sessions is {most}"),
            );
        }
        let Some(rate) = quotas.frames else { return };
        let models = elsewhere.models.iter();
        for model in models.filter(|model| self.rights.may_use(&model.id)) {
            if let Some(fps) = model.fps.filter(|&fps| fps > rate.per_second) {
                warn(
                    ".frames_per_second",
                    format!(
                        "{} are too few for one paced session of {}, which shows {fps} a second",
                        rate.per_second, model.id
                    ),
                );
            }
        }
    }
}
