//! What the system says about this process.

use std::fs;

/// Figures of the process; none where the system does not tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ProcessFigures {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl ProcessFigures {
    /// Reads them. Blocking, for some ten microseconds, and more where many files are open.
    pub(crate) fn read() -> Self {
        Self {
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                // The folder itself is open while it is read.
                .map(|files| (files.count() as u64).saturating_sub(1)),
            ..Self::read_quickly()
        }
    }

    /// The same, but for the number of open files. Blocking, for some ten microseconds.
    pub(crate) fn read_quickly() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second();
        let page_bytes = rustix::param::page_size() as u64;
        Self::parse(&stat, ticks, page_bytes)
    }

    /// Reads the line of proc(5) about a process.
    fn parse(stat: &str, ticks_per_s: u64, page_bytes: u64) -> Self {
        // The name before it may hold anything, brackets and spaces too.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and two fields have gone with the name.
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        let ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
        Self {
            cpu_seconds: ticks.map(|ticks| ticks as f64 / ticks_per_s.max(1) as f64),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages.saturating_mul(page_bytes)),
            open_files: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read() {
        let line = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 9 18 100 4096000 7 25 26\n";
        let figures = ProcessFigures::parse(line, 100, 4096);
        let expected = ProcessFigures {
            cpu_seconds: Some(3.0),
            threads: Some(9),
            virtual_bytes: Some(4_096_000),
            resident_bytes: Some(7 * 4096),
            open_files: None,
        };
        assert_eq!(figures, expected);
        assert_eq!(
            ProcessFigures::parse("", 100, 4096),
            ProcessFigures::default()
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes.unwrap() > 1 << 20, "{figures:?}");
        assert!(figures.open_files.unwrap() > 2, "{figures:?}");
    }
}
