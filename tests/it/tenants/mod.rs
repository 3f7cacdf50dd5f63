//! Tenants: whose key opens what, and how much each may have.

mod identity;
mod isolation;
mod meaning;
mod quotas;

use std::{fmt::Write as _, path::Path, sync::Arc};

use anyhow::Result;
use lipsync_server::tenants::Digest;

use crate::support::{FakeLoader, TestServer, avatar};

/// Keys of the tenants `a`, `b` and `admin`.
pub(crate) const A: &str = "key-of-a-0123456789";
pub(crate) const B: &str = "key-of-b-0123456789";
const ADMIN: &str = "key-of-admin-012345";
/// One of `a` that has expired.
const OLD: &str = "old-key-of-a-012345";

fn hash(key: &str) -> Result<String> {
    let digest = Digest::of(key.as_bytes());
    Ok(digest.map(|digest| digest.hex()).unwrap_or_default())
}

/// Models `a` and `b`, of tenants of the same names, and an admin. `more` are further keys of `a`.
fn yaml(more_of_a: &str) -> Result<String> {
    let mut text = String::from("models: {a: {path: a, preload: true}, b: {path: b}}\ntenants:\n");
    for (id, key, more) in [
        ("a", A, format!("models: [a], {more_of_a}")),
        ("b", B, "models: [b]".to_owned()),
        ("admin", ADMIN, "admin: true, max_priority: high".to_owned()),
    ] {
        let hash = hash(key)?;
        writeln!(
            text,
            "  {id}: {{keys: {{now: {{sha256: {hash}}}, old: {{sha256: {}, expires: 2020-01-01}}}}, {more}}}",
            self::hash(&format!("old-{}", &key[..15]))?
        )?;
    }
    Ok(text)
}

/// A server of these tenants, with further keys of `a` and further sections.
pub(crate) async fn server(folder: &Path, more_of_a: &str, sections: &str) -> Result<TestServer> {
    server_with(folder, more_of_a, sections, FakeLoader::default()).await
}

async fn server_with(
    folder: &Path,
    more_of_a: &str,
    sections: &str,
    loader: FakeLoader,
) -> Result<TestServer> {
    for model in ["a", "b"] {
        avatar::write_fake(&folder.join(model), 3)?;
    }
    let text = format!("{sections}\n{}", yaml(more_of_a)?);
    TestServer::start(&text, folder, Arc::new(loader)).await
}
