//! The memory that this process may take: that of its cgroup or else of the machine, and what budgets make of it.

use std::{fs, path::Path, sync::OnceLock};

use crate::cgroup;

/// What the process takes beside all budgets: code, threads, connections, what is copied for a moment.
const BASE_BYTES: u64 = 96 << 20;
/// And this part of the limit: memory is never used to its last page.
const BASE_PART: u64 = 16;

/// The most memory that this process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLimit {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Where it is said, for messages.
    pub(crate) source: &'static str,
}

/// A budget whose `auto` is a part of the memory, and at most what is enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Sixteenths of what the limit leaves.
    pub(super) sixteenths: u64,
    /// Enough for anybody, bytes.
    pub(super) at_most: u64,
}

/// A budget as it is configured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) key: &'static str,
    pub(super) bytes: u64,
    pub(super) is_auto: bool,
}

impl MemoryLimit {
    /// Of this process; `None` where the system does not say. It is read once.
    pub(crate) fn of_process() -> Option<Self> {
        static LIMIT: OnceLock<Option<MemoryLimit>> = OnceLock::new();
        *LIMIT.get_or_init(|| Self::read(Path::new("/")))
    }

    /// With the system's files below `root`.
    fn read(root: &Path) -> Option<Self> {
        let limits = [of_cgroup(root), of_machine(root)];
        limits.into_iter().flatten().min_by_key(|limit| limit.bytes)
    }

    /// What is left for budgets.
    fn left(self) -> u64 {
        let base = BASE_BYTES.saturating_add(self.bytes / BASE_PART);
        self.bytes.saturating_sub(base)
    }
}

impl Share {
    /// What `auto` comes to.
    pub(super) fn of(self, limit: Option<MemoryLimit>) -> u64 {
        let left = limit.map_or(u64::MAX, MemoryLimit::left);
        (left / 16)
            .saturating_mul(self.sixteenths)
            .min(self.at_most)
    }
}

/// What an operator should know of the budgets.
pub(super) fn warnings(budgets: &[Budget], limit: Option<MemoryLimit>) -> Vec<String> {
    let warning = limit.and_then(|limit| warning(budgets, limit));
    Vec::from_iter(warning)
}

/// A sentence about budgets that are more than the limit together.
fn warning(budgets: &[Budget], limit: MemoryLimit) -> Option<String> {
    let sum = budgets.iter().map(|budget| budget.bytes).sum::<u64>();
    if sum <= limit.left() {
        return None;
    }
    let mut fixed: Vec<&Budget> = budgets.iter().filter(|budget| !budget.is_auto).collect();
    fixed.sort_by_key(|budget| std::cmp::Reverse(budget.bytes));
    let named = |budget: &&Budget| format!("{} ({})", budget.key, mib(budget.bytes));
    let named: Vec<String> = fixed.iter().map(named).collect();
    let advice = if named.is_empty() {
        // Messages must fit into two of them, however little there is.
        "Lower server.max_message_size_mb".to_owned()
    } else {
        format!("Lower {}, or set it to auto", named.join(", "))
    };
    Some(format!(
        "the budgets of memory are {} together, and {} leaves {} for them: the system may kill the server. {advice}",
        mib(sum),
        limit.source,
        mib(limit.left()),
    ))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn of_machine(root: &Path) -> Option<MemoryLimit> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(MemoryLimit {
        bytes: kib.saturating_mul(1024),
        source: "the machine's memory",
    })
}

/// The tightest limit on the way from this process's cgroup to the root.
fn of_cgroup(root: &Path) -> Option<MemoryLimit> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let groups = cgroup::around(&root.join(cgroup::MOUNT), &text);
    let limits = groups.iter().filter_map(|group| {
        Some(MemoryLimit {
            bytes: group.limit()?,
            source: group.source(),
        })
    });
    limits.min_by_key(|limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn limit(files: &[(&str, &str)]) -> Option<(u64, &'static str)> {
        let limit = MemoryLimit::read(system(files).path())?;
        Some((limit.bytes / MIB, limit.source))
    }

    #[test]
    fn the_tightest_limit_of_either_version_counts() {
        let machine = (
            "proc/meminfo",
            "MemTotal:        4194304 kB\nMemFree: 1 kB\n",
        );
        let of_machine = Some((4096, "the machine's memory"));
        let v2 = Some((512, "memory.max of its cgroup"));
        let v1 = Some((256, "memory.limit_in_bytes of its cgroup"));
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[machine]), of_machine);
        let deep = ("proc/self/cgroup", "0::/system.slice/lipsync.service\n");
        let files = [
            machine,
            deep,
            (
                "sys/fs/cgroup/system.slice/lipsync.service/memory.max",
                "max\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "536870912\n"),
        ];
        assert_eq!(limit(&files), v2, "of a folder above");
        assert_eq!(limit(&files[..3]), of_machine, "max is no limit");
        let namespace = [
            ("proc/self/cgroup", "0::/../../x\n"),
            ("sys/fs/cgroup/memory.max", "536870912\n"),
        ];
        assert_eq!(
            limit(&namespace),
            v2,
            "in a container only the root is there"
        );
        let file = "sys/fs/cgroup/memory/docker/1a/memory.limit_in_bytes";
        let old = (
            "proc/self/cgroup",
            "5:cpu,cpuacct:/docker/1a\n4:memory:/docker/1a\n0::/\n",
        );
        assert_eq!(limit(&[machine, old, (file, "268435456\n")]), v1);
        let none = (file, "9223372036854771712\n");
        assert_eq!(limit(&[machine, old, none]), of_machine);
    }

    #[test]
    fn automatic_budgets_fit_and_others_are_named() {
        let limit = |mib| MemoryLimit {
            bytes: mib * MIB,
            source: "memory.max of its cgroup",
        };
        let share = Share {
            sixteenths: 6,
            at_most: 1024 * MIB,
        };
        assert_eq!(share.of(Some(limit(512))) / MIB, 144);
        assert_eq!(share.of(Some(limit(64))), 0);
        assert_eq!(share.of(Some(limit(100_000))), 1024 * MIB);
        assert_eq!(share.of(None), 1024 * MIB);
        let budget = |key, mib, is_auto| Budget {
            key,
            bytes: mib * MIB,
            is_auto,
        };
        let budgets = [
            budget("a", 100, true),
            budget("b", 200, false),
            budget("c", 300, false),
        ];
        assert_eq!(warning(&budgets, limit(1024)), None);
        let said = warning(&budgets, limit(512)).unwrap();
        assert!(said.contains("are 600 MiB together"), "{said}");
        assert!(
            said.contains("memory.max of its cgroup leaves 384 MiB"),
            "{said}"
        );
        assert!(
            said.contains("Lower c (300 MiB), b (200 MiB), or"),
            "{said}"
        );
        let said = warning(&[budget("a", 600, true)], limit(512)).unwrap();
        assert!(said.ends_with("Lower server.max_message_size_mb"), "{said}");
    }
}
