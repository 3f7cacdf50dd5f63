//! The C library's heap. A process of its own: other tests would disturb its resident memory.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

/// Resident memory of this process, kB; none where the system does not say.
fn resident_kb() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn free_pages_between_live_blocks_go_back() {
    // 128 MB. Every second block stays alive, so no threshold helps: only a trim reaches the holes.
    let mut blocks: Vec<Option<Vec<u8>>> = (0..2048).map(|_| Some(vec![1; 64 << 10])).collect();
    for hole in blocks.iter_mut().step_by(2) {
        *hole = None;
    }
    let before = resident_kb().expect("Linux says it");
    assert!(lipsync_engine::heap::give_back());
    let after = resident_kb().expect("Linux says it");
    assert!(
        after + (32 << 10) < before,
        "{before} kB before, {after} kB after"
    );
    assert!(blocks.iter().flatten().all(|block| block[0] == 1));
}
