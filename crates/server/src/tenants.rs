//! Who calls: tenants, their keys and certificates, and the one place where a key or a certificate becomes a tenant.
//!
//! A key is never kept, logged or shown: the configuration has its SHA-256, and of a key that a client shows only that is
//! compared, in constant time. What a tenant may do is in [`Rights`]; the core obeys it.
//!
//! Keys expire by the system's clock, as it is when they are shown: a clock that is set back makes a key good again until
//! its time comes. Nothing else here looks at that clock.

mod key;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use http::{HeaderMap, HeaderValue, header};
use lipsync_compositor::Encoding;
use lipsync_core::{ModelId, Priority, TenantId, Weight};
use lipsync_serving::{ServeError, caller::Caller, peer::Peer, rights::Rights};

pub use key::{Digest, MAX_KEY_BYTES, NewKey};

/// Longer names on certificates are none; the standard allows 64 characters.
pub const MAX_NAME_BYTES: usize = 256;

/// A tenant of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its share of the workers beside others.
    pub weight: Weight,
    /// The level of its work that asks for none.
    pub priority: Priority,
    /// What it may do.
    pub rights: Arc<Rights>,
    /// What holds for requests of some models that do not say.
    pub defaults: BTreeMap<ModelId, ModelDefaults>,
    /// What it shows to be known.
    pub keys: Vec<Key>,
    /// Common names of the certificates by which it is known without a key.
    pub certificates: Vec<String>,
}

/// A key of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What its owner calls it.
    pub name: String,
    /// All that is known of it.
    pub digest: Digest,
    /// From then on it is refused.
    pub expires: Option<SystemTime>,
}

/// What holds for requests of a model that do not say, where that is not as for everybody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelDefaults {
    /// The format, with any quality.
    pub encoding: Option<Encoding>,
    /// Quality of JPEG, 1 to 100.
    pub jpeg_quality: Option<u8>,
    /// Instead of the tenant's own level.
    pub priority: Option<Priority>,
}

/// All tenants of a server. Without any, everybody is the same one and needs no key.
#[derive(Clone, PartialEq)]
pub struct Tenants {
    tenants: Vec<Arc<Tenant>>,
    /// By the beginning of their digests, tenants and their keys by position.
    by_digest: HashMap<u64, Vec<(usize, usize)>>,
    /// By the names on their certificates, tenants by position.
    by_certificate: HashMap<String, usize>,
    everybody: Arc<Tenant>,
    nobody: Arc<Tenant>,
}

impl Tenant {
    /// A call of it that asks for nothing special.
    #[must_use]
    pub fn caller(&self, peer: Peer) -> Caller {
        Caller {
            tenant: self.id.clone(),
            weight: self.weight,
            rights: Arc::clone(&self.rights),
            priority: self.priority,
            ..Caller::at(peer)
        }
    }

    fn with_access_of(&self, newer: &Self) -> Self {
        let rights = Rights {
            is_admin: newer.rights.is_admin,
            models: newer.rights.models.clone(),
            ..Rights::clone(&self.rights)
        };
        Self {
            rights: Arc::new(rights),
            keys: newer.keys.clone(),
            certificates: newer.certificates.clone(),
            ..self.clone()
        }
    }
}

/// What somebody shows to be known.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// No key at all.
    Nothing,
    /// No key, on a connection whose certificate has this common name. An authority of `client_ca` vouches for it.
    Certificate(&'a str),
    /// This one.
    Key(&'a [u8]),
    /// Something that cannot be a key.
    Unreadable,
}

impl Default for Tenants {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Tenants {
    /// These tenants, whose keys and certificates must differ.
    #[must_use]
    pub fn new(tenants: Vec<Tenant>) -> Self {
        let mut by_digest: HashMap<u64, Vec<_>> = HashMap::new();
        let mut by_certificate = HashMap::new();
        for (n, tenant) in tenants.iter().enumerate() {
            by_certificate.extend(tenant.certificates.iter().map(|name| (name.clone(), n)));
            for (k, key) in tenant.keys.iter().enumerate() {
                by_digest
                    .entry(key.digest.start())
                    .or_default()
                    .push((n, k));
            }
        }
        let unknown = |id, rights| {
            Arc::new(Tenant {
                id,
                weight: Weight::default(),
                priority: Priority::default(),
                rights: Arc::new(rights),
                defaults: BTreeMap::new(),
                keys: Vec::new(),
                certificates: Vec::new(),
            })
        };
        Self {
            tenants: tenants.into_iter().map(Arc::new).collect(),
            by_digest,
            by_certificate,
            everybody: unknown(TenantId::default(), Rights::default()),
            // No tenant of the configuration has an empty id.
            nobody: unknown(TenantId::new(""), Rights::of_nobody()),
        }
    }

    /// Whether everybody is the same tenant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The tenants of the configuration; without any, the one of everybody.
    #[must_use]
    pub fn or_everybody(&self) -> &[Arc<Tenant>] {
        match self.is_empty() {
            true => std::slice::from_ref(&self.everybody),
            false => &self.tenants,
        }
    }

    /// The tenants of the configuration.
    #[must_use]
    pub fn list(&self) -> &[Arc<Tenant>] {
        &self.tenants
    }

    /// Who may call and reach what as `newer` says, within the limits of these. A configuration that is taken back must
    /// not bring back a key, or a right, that was taken away with it, nor take one away that was given. One without
    /// tenants gives everybody everything: it has no say.
    #[must_use]
    pub fn with_access_of(&self, newer: &Self) -> Self {
        if newer.is_empty() {
            return self.clone();
        }
        let tenants = newer.tenants.iter().map(|new| {
            let old = self.tenants.iter().find(|old| old.id == new.id);
            old.map_or_else(|| Tenant::clone(new), |old| old.with_access_of(new))
        });
        Self::new(tenants.collect())
    }

    /// Whose key somebody shows, or whose certificate: a key is of one call, so it goes before. With neither, whoever may
    /// ask `without_key` is nobody, who has no models.
    ///
    /// # Errors
    /// [`ServeError::Unauthenticated`], the same whatever is wrong with the key.
    pub fn identify(
        &self,
        shown: Shown<'_>,
        without_key: bool,
        now: SystemTime,
    ) -> Result<Arc<Tenant>, ServeError> {
        if self.is_empty() {
            return Ok(Arc::clone(&self.everybody));
        }
        let nobody = without_key.then_some(&self.nobody);
        let found = match shown {
            Shown::Nothing => nobody,
            Shown::Certificate(name) => self.of_certificate(name).or(nobody),
            Shown::Key(key) => self.owner(key, now),
            Shown::Unreadable => None,
        };
        found.map(Arc::clone).ok_or(ServeError::Unauthenticated)
    }

    fn of_certificate(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(*self.by_certificate.get(name)?)
    }

    fn owner(&self, key: &[u8], now: SystemTime) -> Option<&Arc<Tenant>> {
        let digest = Digest::of(key)?;
        let places = self.by_digest.get(&digest.start())?;
        let mut keys = places.iter().filter_map(|&(n, k)| {
            let tenant = self.tenants.get(n)?;
            Some((tenant, tenant.keys.get(k)?))
        });
        let (tenant, key) = keys.find(|(_, key)| key.digest.is_same(&digest))?;
        let is_good = key.expires.is_none_or(|expires| now < expires);
        is_good.then_some(tenant)
    }
}

/// Keys are many, and nobody needs to see their digests.
impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.tenants.iter().map(|tenant| &tenant.id);
        f.debug_list().entries(ids).finish()
    }
}

/// Subprotocol of a WebSocket that carries sessions; a server that knows it names it in its answer.
pub const SUBPROTOCOL: &str = "lipsync.v1";
/// A subprotocol that begins so carries a key: browsers can send no header with a WebSocket.
const KEY_PROTOCOL: &str = "lipsync-key.";
/// How `authorization` begins, in any case.
const BEARER: &[u8] = b"bearer ";

impl<'a> Shown<'a> {
    /// The key in `authorization: Bearer <key>`.
    #[must_use]
    pub fn in_headers(headers: &'a HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) => Self::in_value(value.as_bytes()),
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }

    fn in_value(value: &'a [u8]) -> Self {
        match value.split_at_checked(BEARER.len()) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(BEARER) => Self::Key(key),
            _ => Self::Unreadable,
        }
    }

    /// This, or without a key the certificate of the connection, by its common name.
    #[must_use]
    pub const fn or_certificate(self, name: Option<&'a str>) -> Self {
        match (self, name) {
            (Self::Nothing, Some(name)) => Self::Certificate(name),
            (shown, _) => shown,
        }
    }

    /// The key among a WebSocket's subprotocols, or else in its headers.
    #[must_use]
    pub fn in_upgrade(headers: &'a HeaderMap) -> Self {
        let keys = protocols(headers).filter_map(|protocol| protocol.strip_prefix(KEY_PROTOCOL));
        let mut keys = keys.map(str::as_bytes);
        match (keys.next(), keys.next()) {
            (None, _) => Self::in_headers(headers),
            (Some(key), None) => Self::Key(key),
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }
}

/// Whether a WebSocket's client waits for us to name the subprotocol.
#[must_use]
pub fn wants_subprotocol(headers: &HeaderMap) -> bool {
    protocols(headers).any(|protocol| protocol == SUBPROTOCOL)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = values.filter_map(|value: &HeaderValue| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests;
