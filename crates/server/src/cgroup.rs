//! The control groups (cgroups) around this process, of both versions, and the memory that they allow.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Where the kernel shows control groups.
pub(crate) const MOUNT: &str = "sys/fs/cgroup";
/// Version 1 says "no limit" with a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// One group that bounds the memory of this process, or could.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// What a version calls its files.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The line of `memory.stat` with the cached files that go when the memory is needed.
    cached: &'static str,
    /// Where the limit is said, for messages.
    source: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: "total_inactive_file ",
    source: "memory.limit_in_bytes of its cgroup",
};
const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    cached: "inactive_file ",
    source: "memory.max of its cgroup",
};

/// The groups from that of this process to the root. `text` is proc(5)'s `self/cgroup`. In a container a path may be
/// that of the host, of which only the root is mounted.
pub(crate) fn around(mount: &Path, text: &str) -> Vec<Group> {
    text.lines()
        .filter_map(|line| group_folders(mount, line))
        .flatten()
        .collect()
}

fn group_folders(mount: &Path, line: &str) -> Option<Vec<Group>> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let is_v1 = controllers.split(',').any(|name| name == "memory");
    let (mount, files) = if hierarchy == "0" && controllers.is_empty() {
        (mount.to_owned(), &V2)
    } else if is_v1 {
        (mount.join("memory"), &V1)
    } else {
        return None;
    };
    let plain = Path::new(path).components();
    let plain: PathBuf = plain
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let group = |path: &Path| Group {
        folder: mount.join(path),
        files,
    };
    Some(plain.ancestors().map(group).collect())
}

impl Group {
    fn number(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(name)).ok()?;
        text.trim().parse().ok()
    }

    /// The most memory that it allows, bytes; `None` without a limit.
    pub(crate) fn limit(&self) -> Option<u64> {
        // Without a limit, version 2 says "max".
        self.number(self.files.limit)
            .filter(|&bytes| bytes < NO_LIMIT)
    }

    /// Memory in use that does not go when it is needed, bytes.
    pub(crate) fn used(&self) -> Option<u64> {
        let used = self.number(self.files.used)?;
        let stat = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let cached = stat
            .lines()
            .find_map(|line| line.strip_prefix(self.files.cached));
        let cached = cached.and_then(|n| n.parse().ok()).unwrap_or(0_u64);
        Some(used.saturating_sub(cached))
    }

    /// Where the limit is said, for messages.
    pub(crate) fn source(&self) -> &'static str {
        self.files.source
    }
}
