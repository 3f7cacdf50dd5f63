//! `keys`, and what `check-config` says of tenants.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::server::BINARY;

#[test]
fn a_new_key_and_its_hash_go_into_a_good_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = |arguments: &[&str], input: &str| {
        let mut process = Command::new(BINARY)
            .current_dir(folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // Whoever does not read it may be gone already.
        let _written = process
            .stdin
            .take()
            .context("standard input")?
            .write_all(input.as_bytes());
        let output = process.wait_with_output()?;
        anyhow::Ok((output.status.code(), String::from_utf8(output.stdout)?))
    };
    let (code, made) = run(&["keys", "new", "--tenant", "acme"], "")?;
    assert_eq!(code, Some(0));
    let key = made
        .split_whitespace()
        .find(|word| word.starts_with("lsk_"))
        .context("no key")?;
    let section = &made[made.find("tenants:").context("no section")?..];
    let (code, hashed) = run(&["keys", "hash", "--tenant", "acme"], key)?;
    assert_eq!((code, hashed.trim()), (Some(0), section.trim()));
    assert!(!hashed.contains(key));
    let rest = "    models: [a]\n    weight: 3\n    frames_per_second: 30\n    max_sessions: 4\n  \
                other: {models: [b]}\nmodels: {a: {path: a}, b: {path: b}}\n";
    fs::write(
        folder.path().join("config.yaml"),
        format!("{}\n{rest}", section.trim_end()),
    )?;
    let (code, said) = run(&["check-config"], "")?;
    assert_eq!(code, Some(0));
    for words in [
        "2 tenants:",
        "acme: a; key main; weight 3 (75 % of a busy server); normal by default, at most normal",
        "at most 30 frames/s, 64 at once, 4 sessions",
        "at 25 frames a second that frames_per_second is enough for: 1",
        "for all of them to be paced, frames_per_second must be 100",
        "other: b; no keys; weight 1 (25 %",
        "no tenant has admin: true",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    // Without tenants, everybody who reaches the ports may do everything.
    fs::write(
        folder.path().join("config.yaml"),
        "models: {a: {path: a}}\n",
    )?;
    let (_, said) = run(&["check-config"], "")?;
    assert!(said.contains("advice: there are no tenants"), "{said}");
    Ok(())
}
