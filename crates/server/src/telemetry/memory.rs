//! How much memory there is, as far as this process may use it: the machine's, or that of its control group.

use std::{fs, path::Path};

use crate::cgroup;

/// Memory that this process shares with others, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) total: u64,
    /// What could be had now, without swapping.
    pub(crate) available: u64,
}

/// What the system says about memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryFigures {
    /// The machine's.
    pub(crate) machine: Option<Memory>,
    /// The control group's with the fewest bytes left, of those that have a limit.
    pub(crate) group: Option<Memory>,
}

impl Memory {
    /// The part that is in use, 0 to 1.
    pub(crate) fn ratio(self) -> f64 {
        let used = self.total.saturating_sub(self.available);
        used as f64 / self.total.max(1) as f64
    }
}

impl MemoryFigures {
    /// Asks the system. Blocking, for some ten microseconds.
    pub(crate) fn read() -> Self {
        let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            machine: Self::of_machine(&machine),
            group: Self::of_groups(&Path::new("/").join(cgroup::MOUNT), &groups),
        }
    }

    /// The one that runs out first: the control group's, or the machine's.
    pub(crate) fn tightest(&self) -> Option<Memory> {
        let both = [self.machine, self.group].into_iter().flatten();
        both.max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
    }

    /// Reads proc(5)'s `meminfo`.
    fn of_machine(text: &str) -> Option<Memory> {
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let kib = |line: &str| line.split_whitespace().next()?.parse::<u64>().ok();
        let bytes = |name| Some(kib(line(name)?)?.saturating_mul(1024));
        Some(Memory {
            total: bytes("MemTotal:")?,
            available: bytes("MemAvailable:")?,
        })
    }

    /// Looks at this process's group and at those around it. `text` is proc(5)'s `self/cgroup`.
    fn of_groups(mount: &Path, text: &str) -> Option<Memory> {
        let groups = cgroup::around(mount, text);
        let limited = groups.iter().filter_map(|group| {
            let total = group.limit()?;
            Some(Memory {
                total,
                available: total.saturating_sub(group.used()?),
            })
        });
        limited.min_by_key(|memory| memory.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells() {
        let text = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    250 kB\n";
        let memory = MemoryFigures::of_machine(text).unwrap();
        assert_eq!((memory.total, memory.available), (1_024_000, 256_000));
        assert!((memory.ratio() - 0.75).abs() < 1e-9);
        assert_eq!(MemoryFigures::of_machine("MemTotal: x kB"), None);
    }

    #[test]
    fn the_tightest_group_around_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, max: &str, current: &str| {
            let folder = root.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.max"), max).unwrap();
            fs::write(folder.join("memory.current"), current).unwrap();
            fs::write(folder.join("memory.stat"), "anon 1\ninactive_file 100\n").unwrap();
        };
        group("a.slice/server.service", "max\n", "500\n");
        group("a.slice", "1000\n", "900\n");
        let of = |text: &str| MemoryFigures::of_groups(root.path(), text);
        let slice = Memory {
            total: 1000,
            available: 200,
        };
        assert_eq!(of("0::/a.slice/server.service\n"), Some(slice));
        assert_eq!(of("0::/b.slice\n"), None);
        assert_eq!(of("1:cpu:/a.slice\n"), None, "version 1");
        let old = root.path().join("memory/a");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("memory.limit_in_bytes"), "1000\n").unwrap();
        fs::write(old.join("memory.usage_in_bytes"), "900\n").unwrap();
        fs::write(old.join("memory.stat"), "total_inactive_file 100\n").unwrap();
        assert_eq!(of("4:memory:/a\n"), Some(slice));
        // In a container, the path may be that of the host.
        group("", "800\n", "790\n");
        let container = Memory {
            total: 800,
            available: 110,
        };
        assert_eq!(of("0::/kubepods/pod1\n"), Some(container));
        let figures = MemoryFigures {
            machine: Some(slice),
            group: Some(container),
        };
        assert_eq!(figures.tightest(), Some(container));
    }
}
