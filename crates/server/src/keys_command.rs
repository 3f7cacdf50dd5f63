//! `lipsync-server keys`: makes keys, and hashes those that there are.

use std::{
    io::{self, BufRead as _},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use lipsync_server::tenants::{Digest, MAX_KEY_BYTES, NewKey};

use crate::command_line::{KeysCommand, say};

/// Shorter ones can be guessed.
const MIN_KEY_BYTES: usize = 16;

/// `lipsync-server keys`: makes or hashes one.
pub fn keys(command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::New { tenant, name } => {
            let key = NewKey::make().context("the operating system has no random bits")?;
            let digest = Digest::of(key.reveal().as_bytes()).context("a key of this length")?;
            say(&format_args!(
                "The key, which is shown only now:\n\n  {}\n\nIn the configuration:\n\n{}",
                key.reveal(),
                section(&tenant, &name, digest)
            ))?;
        }
        KeysCommand::Hash { tenant, name } => {
            let digest = hash(&read_key(io::stdin().lock())?)?;
            say(&section(&tenant, &name, digest))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn section(tenant: &str, name: &str, digest: Digest) -> String {
    format!(
        "tenants:\n  {tenant}:\n    keys:\n      {name}:\n        sha256: {}",
        digest.hex()
    )
}

/// The first line, without its end.
fn read_key(input: impl io::BufRead) -> anyhow::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = u64::try_from(MAX_KEY_BYTES + 2)?;
    input
        .take(limit)
        .read_until(b'\n', &mut line)
        .context("cannot read standard input")?;
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(line)
}

fn hash(key: &[u8]) -> anyhow::Result<Digest> {
    ensure!(
        key.len() >= MIN_KEY_BYTES,
        "expected a key of at least {MIN_KEY_BYTES} characters, found {}: shorter ones can be guessed",
        key.len()
    );
    ensure!(
        key.iter().all(u8::is_ascii_graphic),
        "expected a key of printable ASCII characters without spaces, which headers can carry"
    );
    Digest::of(key).with_context(|| format!("expected a key of at most {MAX_KEY_BYTES} characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_good_configuration() {
        let key = read_key(&b"0123456789abcdef\r\nrest"[..]).unwrap();
        assert_eq!(key, b"0123456789abcdef");
        let text = section("a-1", "main", hash(&key).unwrap());
        let config = lipsync_server::Config::parse(&text, std::path::Path::new("c"), []).unwrap();
        let shown = lipsync_server::tenants::Shown::Key(&key);
        let now = std::time::SystemTime::now();
        let tenant = config.tenants.identify(shown, false, now).unwrap();
        assert_eq!(tenant.id.as_str(), "a-1");
    }

    #[test]
    fn what_can_be_no_key_is_refused_and_not_repeated() {
        for (key, words) in [
            (&b""[..], "found 0"),
            (b"short-and-secret", ""),
            (b"too-short-secret"[1..].as_ref(), "at least 16"),
            (b"a secret with spaces", "printable"),
            (&[b'k'; 300], "at most 256"),
        ] {
            let found = hash(&read_key(key).unwrap());
            if words.is_empty() {
                assert!(found.is_ok());
                continue;
            }
            let refused = found.unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
