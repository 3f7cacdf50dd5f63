//! Tenants whose users share the load: who they are, and who is whose.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// A tenant of the server under test.
#[derive(Debug, Clone, Serialize)]
pub struct Tenant {
    /// Its name in the report.
    pub name: String,
    /// Its key.
    pub key: Secret,
    /// Its part of the users beside others.
    pub share: u32,
    /// Models that its users request; empty = those of `--model`.
    pub models: Vec<String>,
}

/// A key. Nothing shows or stores it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = String;

    /// A key, or `@VARIABLE` for the one in an environment variable: command lines can be seen by everybody on the
    /// machine.
    fn from_str(text: &str) -> Result<Self, String> {
        let key = match text.strip_prefix('@') {
            None => text.to_owned(),
            Some(variable) => std::env::var(variable)
                .map_err(|_| format!("there is no environment variable {variable}"))?,
        };
        if key.is_empty() {
            return Err("expected a key, found none".to_owned());
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("(secret)")
    }
}

impl FromStr for Tenant {
    type Err = String;

    /// `NAME=KEY`, `NAME=KEY:SHARE` or `NAME=KEY:SHARE:MODEL+MODEL`. No message repeats the key.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected NAME=KEY:SHARE, such as acme=@ACME_KEY:3";
        let (name, rest) = text.split_once('=').ok_or(EXPECTED)?;
        let mut parts = rest.split(':');
        let key = parts.next().unwrap_or_default().parse()?;
        let share = match parts.next() {
            None => 1,
            Some(share) => share
                .parse()
                .ok()
                .filter(|share| (1..=1_000_000).contains(share))
                .ok_or("the share: expected a whole number from 1 to 1000000")?,
        };
        let models: Vec<_> = parts
            .next()
            .into_iter()
            .flat_map(|models| models.split('+').map(str::to_owned))
            .collect();
        if name.is_empty() || parts.next().is_some() || models.iter().any(String::is_empty) {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            key,
            share,
            models,
        })
    }
}

/// Whose each of `n_users` users is, by position: as their shares say, and evenly mixed.
#[must_use]
pub fn spread(shares: &[u32], n_users: u64) -> Vec<usize> {
    let mut counts = vec![0_u64; shares.len()];
    let mut places = Vec::new();
    for _ in 0..n_users {
        // Whoever would still be furthest below its share with one more.
        let next = (0..shares.len()).min_by(|&a, &b| {
            let left = (counts[a] + 1) * u64::from(shares[b]);
            let right = (counts[b] + 1) * u64::from(shares[a]);
            left.cmp(&right)
        });
        let Some(next) = next else { break };
        counts[next] += 1;
        places.push(next);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_read_and_its_key_never_shown() {
        let tenant: Tenant = "acme=lsk_secret:3:mira+tomo".parse().expect("fine");
        assert_eq!((tenant.name.as_str(), tenant.share), ("acme", 3));
        assert_eq!(tenant.models, ["mira", "tomo"]);
        assert_eq!(tenant.key.reveal(), "lsk_secret");
        let json = serde_json::to_string(&tenant).expect("plain");
        assert!(!format!("{tenant:?} {json}").contains("lsk_secret"));
        assert_eq!("a=k".parse::<Tenant>().expect("fine").share, 1);
        for wrong in [
            "lsk_secret",
            "=lsk_secret",
            "a=",
            "a=lsk_secret:0",
            "a=lsk_secret:x",
            "a=lsk_secret:1:",
            "a=lsk_secret:1:m:n",
            "a=@LIPSYNC_NO_SUCH_VARIABLE",
        ] {
            let refused = wrong.parse::<Tenant>().expect_err(wrong);
            assert!(!refused.contains("lsk_secret"), "{refused}");
        }
    }

    #[test]
    fn users_are_spread_by_shares_and_mixed() {
        assert_eq!(spread(&[1], 3), [0, 0, 0]);
        assert_eq!(spread(&[1, 3], 8), [1, 1, 0, 1, 1, 1, 0, 1]);
        let many = spread(&[1, 2, 7], 1000);
        let count = |tenant| many.iter().filter(|&&t| t == tenant).count();
        assert_eq!([0, 1, 2].map(count), [100, 200, 700]);
        assert!(spread(&[], 5).is_empty());
    }
}
