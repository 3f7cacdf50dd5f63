// Which commit a program is built from, for `--version`: the build scripts of both programs include this file.

use std::{env, path::Path, process::Command};

/// Gives the crate `BUILT_VERSION`: the version, with the commit where it is known.
///
/// It is that of `LIPSYNC_COMMIT` (for builds of an archive or in a container), or what git says of this repository; there is
/// none without either. Builds for debugging do not name it, so that they need not be made anew at every commit.
fn tell_version() {
    println!("cargo::rerun-if-env-changed=LIPSYNC_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../build/commit.rs");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let given = env::var("LIPSYNC_COMMIT")
        .ok()
        .filter(|commit| is_commit(commit));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| is_release.then(commit_of_repository).flatten());
    let version = match (commit, is_release) {
        (Some(commit), _) => format!("{version} ({commit})"),
        (None, true) => version,
        (None, false) => format!("{version} (debug build)"),
    };
    println!("cargo::rustc-env=BUILT_VERSION={version}");
}

fn commit_of_repository() -> Option<String> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").ok()?).join("../..");
    // Sources without one of their own may lie in somebody else's repository.
    if !root.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let run = Command::new("git")
            .arg("-C")
            .arg(&root)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(run.stdout).ok()?.trim().to_owned();
        (run.status.success() && !text.is_empty()).then_some(text)
    };
    // The second changes with every commit. A file that is not there would have this run in every build.
    for file in ["HEAD", "logs/HEAD"] {
        let file = root.join(git(&["rev-parse", "--git-path", file])?);
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_commit(commit))
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}
