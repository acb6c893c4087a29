//! Locked memory is the whole process's, so this is a process of its own.

use std::{fs, thread};

use hilt_realtime::{Missing, Wanted};

/// What the kernel says of this process, KiB.
fn locked_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmLck:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn memory_is_locked_or_reported_missing_and_can_be_had_afterwards() {
    assert_eq!(locked_kib(), Some(0));
    let wanted = Wanted {
        lock_memory: true,
        ..Wanted::default()
    };
    let missing = thread::spawn(move || wanted.apply()).join().unwrap();
    match missing.as_slice() {
        [] => assert!(locked_kib() > Some(0)),
        [Missing::MemoryLimit { .. } | Missing::MemoryRefused { .. }] => {
            assert_eq!(locked_kib(), Some(0))
        }
        other => panic!("{other:?}"),
    }
    let before = locked_kib().unwrap();
    let later = vec![1_u8; 64 << 20];
    if missing.is_empty() {
        let grown = locked_kib() >= Some(before + (64 << 10));
        assert!(grown, "what comes later is locked too");
    }
    let worker = thread::spawn(move || later.iter().map(|&b| u64::from(b)).sum::<u64>());
    assert_eq!(worker.join().unwrap(), 64 << 20);
}
