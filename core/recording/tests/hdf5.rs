//! Tables in HDF5 files, there and back with h5py itself, and what is said of bad ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/python.rs"]
mod support;

use std::{fs, path::Path};

use hilt_recording::{
    Data,
    convert::{Format, convert},
    table::{Columns, Table, hdf5},
};
use serde_json::json;

const ROWS: usize = 1000;

/// The numbers that `d4rl.py` has too.
fn table() -> Table {
    let eighths = |count: usize, of: fn(usize) -> f32| (0..count).map(of).collect::<Vec<_>>();
    Table::new(Columns {
        observation: 3,
        action: 2,
        observations: eighths(3 * ROWS, |i| i as f32 / 8.0),
        actions: eighths(2 * ROWS, |i| (i % 16) as f32 / 8.0 - 1.0),
        rewards: eighths(ROWS, |i| i as f32 / 8.0 - 50.0),
        next_observations: eighths(3 * ROWS, |i| (i + 3) as f32 / 8.0),
        terminals: (0..ROWS).map(|i| i % 70 == 69).collect(),
        timeouts: (0..ROWS).map(|i| i % 100 == 99).collect(),
    })
    .unwrap()
}

fn python(task: &str, place: &Path) -> Option<serde_json::Value> {
    let out = support::python("d4rl.py", &[task.as_ref(), place.as_os_str()])?;
    Some(serde_json::from_slice(&out).unwrap())
}

#[test]
fn what_h5py_wrote_is_read_and_bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kept) = python("write", dir.path()) else {
        return;
    };
    let path = |name: &str| dir.path().join(name);
    for name in [
        "double.hdf5",
        "single.hdf5",
        "packed.h5",
        "newest.h5",
        "newest-packed.h5",
        "big-endian.h5",
        "other-names.hdf5",
        "growing.hdf5",
    ] {
        let read = match Data::open(&path(name), None) {
            Ok(Data::Table(read)) => read,
            other => panic!("{name}: {other:?}"),
        };
        assert!(read == table(), "{name}");
    }

    // Without next observations: as D4RL itself reads it.
    let raw = hdf5::read(&path("raw.hdf5")).unwrap();
    let rows = |values: &[f32]| values.chunks(3).map(|row| json!(row)).collect::<Vec<_>>();
    let columns = raw.columns();
    let read = json!({
        "observations": rows(&columns.observations),
        "next_observations": rows(&columns.next_observations),
        "rewards": columns.rewards,
        "terminals": columns.terminals,
    });
    assert!(read == kept);
    assert_eq!(raw.len(), ROWS - 10);
    assert_eq!(columns.actions.len(), 2 * raw.len());
    // Where a row was left out, an episode ends.
    assert!(raw.ends(98) && !raw.ends(97));

    for (name, wanted) in [
        (
            "liar.hdf5",
            "`observations`: its header says shape [1000000000, 3]",
        ),
        ("unwritten.hdf5", "`rewards`: its header says shape [1000]"),
        (
            "words.hdf5",
            "`actions`: its type is String of 4 bytes; read are",
        ),
        ("nan.hdf5", "`rewards` has NaN in row 7, place 0: leave"),
        ("short.hdf5", "`rewards` has shape [999], it needs [1000]"),
        (
            "half.hdf5",
            "`terminals` has 0.5 in row 0, it must be 0 or 1",
        ),
        (
            "without.hdf5",
            "there is no `actions` or `action`; there are next_observations, observations, rewards, terminals, timeouts",
        ),
        ("empty.hdf5", "the table has no rows"),
    ] {
        let Err(said) = hdf5::read(&path(name)) else {
            panic!("{name} is read");
        };
        let said = said.to_string();
        let wanted = format!("{}: {wanted}", path(name).display());
        assert!(said.starts_with(&wanted), "{said}");
    }

    for name in ["single.hdf5", "packed.h5", "newest-packed.h5"] {
        let whole = fs::read(path(name)).unwrap();
        for part in 0..50 {
            let cut = whole[..whole.len() * part / 50].to_vec();
            let Err(said) = hdf5::read_from(cut, Path::new("cut.h5")) else {
                panic!("{name}, {part}/50 of it, is read");
            };
            let said = said.to_string();
            assert!(said.starts_with("cut.h5: "), "{said}");
            assert!(said.contains("copy"), "{said}");
        }
    }
}

#[test]
fn h5py_reads_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.hdf5");
    let table = table();
    let written = convert(&Data::Table(table.clone()), &path, Format::Hdf5, "", |_| {
        true
    })
    .unwrap();
    assert_eq!(written, ROWS as u64);
    assert!(hdf5::read(&path).unwrap() == table);
    let Some(read) = python("read", &path) else {
        return;
    };
    let columns = table.columns();
    let wanted = json!({
        "observations": ["float32", [ROWS, 3], columns.observations],
        "actions": ["float32", [ROWS, 2], columns.actions],
        "rewards": ["float32", [ROWS], columns.rewards],
        "next_observations": ["float32", [ROWS, 3], columns.next_observations],
        "terminals": ["bool", [ROWS], columns.terminals],
        "timeouts": ["bool", [ROWS], columns.timeouts],
    });
    assert!(read == wanted);
}

#[test]
fn a_cut_or_damaged_file_of_ours_gives_a_message_or_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.h5");
    hdf5::write(&path, &table()).unwrap();
    let whole = fs::read(&path).unwrap();
    for part in 0..50 {
        let cut = whole[..whole.len() * part / 50].to_vec();
        let Err(said) = hdf5::read_from(cut, Path::new("cut.h5")) else {
            panic!("{part}/50 of it is read");
        };
        assert!(said.to_string().starts_with("cut.h5: "), "{said}");
    }
    // Every byte of what lies before the numbers, another.
    for at in 0..3000 {
        for change in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            if let Err(said) = hdf5::read_from(damaged, Path::new("bad.h5")) {
                assert!(said.to_string().starts_with("bad.h5: "), "{said}");
            }
        }
    }
    // A folder stands in its place: nothing is left beside it.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let said = hdf5::write(&path, &table()).unwrap_err().to_string();
    assert!(said.starts_with(&path.display().to_string()), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
