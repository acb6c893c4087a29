//! Tables of transitions: what is refused and by which name, and archives there and back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Cursor, Write},
    path::Path,
};

use hilt_recording::table::{Columns, Table, TableError, npz};
use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Five rows of two episodes; O = 2, A = 1.
fn columns() -> Columns {
    Columns {
        observation: 2,
        action: 1,
        observations: vec![0., 0., 1., 0., 2., 0., 5., 5., 6., 5.],
        actions: vec![0.5, -1.0, 1.0, 0.0, 0.25],
        rewards: vec![0., 0., 1., 2., 3.],
        next_observations: vec![1., 0., 2., 0., 3., 0., 6., 5., 7., 5.],
        terminals: vec![false, false, true, false, false],
        timeouts: vec![false; 5],
    }
}

fn episodes(change: impl FnOnce(&mut Columns)) -> Vec<(usize, usize)> {
    let mut columns = columns();
    change(&mut columns);
    let table = Table::new(columns).unwrap();
    table.episodes().map(|e| (e.start, e.end)).collect()
}

#[test]
fn an_episode_ends_at_a_terminal_a_timeout_or_a_jump() {
    assert_eq!(episodes(|_| ()), [(0, 3), (3, 5)]);
    assert_eq!(episodes(|c| c.terminals = vec![false; 5]), [(0, 3), (3, 5)]);
    assert_eq!(episodes(|c| c.timeouts[0] = true), [(0, 1), (1, 3), (3, 5)]);
    assert_eq!(
        episodes(|c| c.terminals[3] = true),
        [(0, 3), (3, 4), (4, 5)]
    );
    // A difference that rounding makes is no jump, a larger one is.
    assert_eq!(episodes(|c| c.observations[3] = 5e-7), [(0, 3), (3, 5)]);
    assert_eq!(
        episodes(|c| c.observations[3] = 5e-6),
        [(0, 1), (1, 3), (3, 5)]
    );
}

#[test]
fn columns_that_are_no_table_are_refused_by_name_and_row() {
    let refused = |change: fn(&mut Columns)| {
        let mut columns = columns();
        change(&mut columns);
        Table::new(columns).unwrap_err()
    };
    assert_eq!(Table::new(Columns::default()), Err(TableError::Empty));
    assert_eq!(refused(|c| c.action = 0), TableError::Empty);
    let (column, got, wanted) = ("actions", 5, 10);
    assert_eq!(
        refused(|c| c.action = 2),
        TableError::Length {
            column,
            got,
            wanted
        }
    );
    let (column, got, wanted) = ("timeouts", 4, 5);
    assert_eq!(
        refused(|c| c.timeouts.truncate(4)),
        TableError::Length {
            column,
            got,
            wanted
        }
    );
    assert!(matches!(
        refused(|c| c.next_observations[7] = f32::NEG_INFINITY),
        TableError::NotFinite {
            column: "next_observations",
            row: 3,
            place: 1,
            ..
        }
    ));
}

/// A `.npy` file of version 1.
fn array(descr: &str, fortran: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), numbers].concat()
}

fn f4(shape: &str, numbers: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    array("<f4", "False", shape, &bytes)
}

fn f8(shape: &str, numbers: &[f64]) -> Vec<u8> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    array("<f8", "False", shape, &bytes)
}

/// The members of a small archive; O = 2, A = 1, N = 3.
fn members() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("observations", f4("(3, 2)", &[0., 1., 2., 3., 4., 5.])),
        ("actions", f4("(3, 1)", &[0.5, -0.5, 1.])),
        ("rewards", f4("(3,)", &[0., 1., 2.])),
        ("next_observations", f4("(3, 2)", &[2., 3., 4., 5., 6., 7.])),
        ("terminals", array("|b1", "False", "(3,)", &[0, 0, 1])),
    ]
}

fn archive(members: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn read(archive: &[u8]) -> Result<Table, npz::NpzError> {
    npz::read_from(
        Cursor::new(archive),
        archive.len() as u64,
        Path::new("log.npz"),
    )
}

#[test]
fn every_layout_type_and_order_gives_the_same_table() {
    let stored = archive(&members(), CompressionMethod::Stored);
    let wanted = read(&stored).unwrap();
    assert_eq!(wanted.columns().observation, 2);
    assert_eq!(wanted.columns().timeouts, [false; 3]);
    assert_eq!(wanted.columns().terminals, [false, false, true]);

    let deflated = archive(&members(), CompressionMethod::Deflated);
    assert_ne!(stored, deflated);
    assert_eq!(read(&deflated).unwrap(), wanted);

    let (zero, one, two) = (0i64.to_le_bytes(), 1i64.to_le_bytes(), 2i64.to_le_bytes());
    let column_major: Vec<u8> = [0f64, 2., 4., 1., 3., 5.]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let others = [
        ("obs", array("<f8", "True", "(3, 2)", &column_major)),
        // Half precision: 0.5, −0.5, 1.
        (
            "action",
            array("<f2", "False", "(3, 1)", &[0, 0x38, 0, 0xb8, 0, 0x3c]),
        ),
        (
            "reward",
            array("<i8", "False", "(3, 1)", &[zero, one, two].concat()),
        ),
        ("next_obs", f8("(3, 2)", &[2., 3., 4., 5., 6., 7.])),
        ("done", f4("(3, 1)", &[0., 0., 1.])),
        ("infos", array("|O", "False", "(3,)", b"whatever")),
    ];
    assert_eq!(
        read(&archive(&others, CompressionMethod::Stored)).unwrap(),
        wanted
    );
}

#[test]
fn without_next_observations_it_is_the_next_rows() {
    let mut without = members();
    without.retain(|(name, _)| *name != "next_observations");
    let read_of = |members: &[_]| read(&archive(members, CompressionMethod::Stored));
    let timeouts = |flags| ("timeouts", array("|b1", "False", "(3,)", flags));
    // Where episodes were cut could not be told.
    let said = read_of(&without).unwrap_err().to_string();
    assert!(
        said.contains("no `next_observations`, or else `timeouts`"),
        "{said}"
    );
    without.push(timeouts(&[0, 0, 0]));
    let table = read_of(&without).unwrap();
    without.pop();
    let columns = table.columns();
    // The last row has none.
    assert_eq!(columns.observations, [0., 1., 2., 3.]);
    assert_eq!(columns.next_observations, [2., 3., 4., 5.]);
    assert_eq!(columns.actions, [0.5, -0.5]);
    assert_eq!(columns.terminals, [false; 2]);

    // Nor has one in which time ran out.
    without.push(timeouts(&[1, 0, 0]));
    let table = read_of(&without).unwrap();
    assert_eq!(table.columns().rewards, [1.]);
    assert_eq!(table.columns().next_observations, [4., 5.]);
    assert_eq!(table.columns().timeouts, [false]);
    without.pop();
    without.push(timeouts(&[1, 1, 0]));
    let said = read_of(&without).unwrap_err().to_string();
    assert_eq!(
        said,
        "log.npz: the table has no rows, or rows of no numbers"
    );
}

/// What is said of an archive where one member is another.
fn said(key: &'static str, bytes: Vec<u8>) -> String {
    let mut members = members();
    members.retain(|(name, _)| *name != key);
    members.push((key, bytes));
    let error = read(&archive(&members, CompressionMethod::Deflated)).unwrap_err();
    error.to_string()
}

#[test]
fn every_fault_names_file_key_and_row() {
    let start = |key, bytes, wanted: &str| {
        let said = said(key, bytes);
        assert!(said.starts_with(&format!("log.npz: {wanted}")), "{said}");
    };
    start(
        "actions",
        f4("(2, 1)", &[0.; 2]),
        "`actions` has shape [2, 1], it needs [3, numbers per row]",
    );
    start(
        "actions",
        f4("(3,)", &[0.; 3]),
        "`actions` has shape [3], it needs [3, numbers",
    );
    start(
        "rewards",
        f4("(3, 2)", &[0.; 6]),
        "`rewards` has shape [3, 2], it needs [3]",
    );
    start(
        "next_observations",
        f4("(3, 3)", &[0.; 9]),
        "`next_observations` has shape [3, 3], it needs [3, 2]",
    );
    start(
        "observations",
        f4("(0, 2)", &[]),
        "`actions` has shape [3, 1], it needs [0",
    );
    start(
        "rewards",
        array("<c8", "False", "(3,)", &[0; 24]),
        "`rewards`: its type is '<c8'; read are",
    );
    start(
        "rewards",
        array(">f4", "False", "(3,)", &[0; 12]),
        "`rewards`: its type is '>f4'",
    );
    start(
        "terminals",
        array("|O", "False", "(3,)", b"..."),
        "`terminals`: its type is '|O'",
    );
    start(
        "terminals",
        f4("(3,)", &[0., 0.5, 1.]),
        "`terminals` has 0.5 in row 1, it must be",
    );
    start(
        "timeouts",
        f4("(3,)", &[0., 0., f32::NAN]),
        "`timeouts` has NaN in row 2",
    );
    start(
        "rewards",
        f4("(3,)", &[0., f32::NAN, 1.]),
        "`rewards` has NaN in row 1, place 0:",
    );
    // Beyond f32.
    start(
        "rewards",
        f8("(3,)", &[0., 0., -1e300]),
        "`rewards` has -inf in row 2",
    );
    start("rewards", b"pickled".to_vec(), "`rewards`: ");
    start(
        "rewards",
        vec![0; 500],
        "`rewards`: it is no array of numpy's",
    );
    // Fewer and more numbers than it says, and far more than there can be.
    for (shape, numbers) in [("(3,)", 2), ("(3,)", 4)] {
        start(
            "rewards",
            f4(shape, &vec![0.; numbers]),
            "`rewards`: its header says shape [3]",
        );
    }
    let large = f4("(4611686018427387904, 2)", &[0.; 6]);
    start(
        "observations",
        large,
        "`observations`: its header says shape [4611686018427387904",
    );

    let without = &archive(&members()[1..], CompressionMethod::Stored);
    let said = read(without).unwrap_err().to_string();
    assert_eq!(
        said,
        "log.npz: there is no `observations` or `obs`; there are actions, next_observations, \
         rewards, terminals"
    );
}

#[test]
fn a_cut_or_damaged_archive_is_refused_at_every_byte() {
    let whole = archive(&members(), CompressionMethod::Stored);
    for length in 0..whole.len() {
        let said = read(&whole[..length]).unwrap_err().to_string();
        assert!(
            said.starts_with("log.npz: ") && said.contains("copy it again"),
            "{said}"
        );
    }
    // A byte of the numbers is another: the checksum tells.
    let needle = 2f32.to_le_bytes();
    let at = whole.windows(4).position(|bytes| bytes == needle).unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    let said = read(&damaged).unwrap_err().to_string();
    assert!(said.starts_with("log.npz: `observations`: "), "{said}");
}

#[test]
fn a_file_that_is_not_there_or_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.npz");
    let said = npz::read(&path).unwrap_err().to_string();
    assert!(said.starts_with(&path.display().to_string()), "{said}");
    let table = Table::new(columns()).unwrap();
    let path = dir.path().join("none/log.npz");
    let said = npz::write(&path, &table).unwrap_err().to_string();
    assert!(said.starts_with(&path.display().to_string()), "{said}");
    // A folder stands in its place: nothing is left beside it.
    let path = dir.path().join("log.npz");
    std::fs::create_dir(&path).unwrap();
    npz::write(&path, &table).unwrap_err();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

fn tables() -> impl Strategy<Value = Table> {
    (1usize..40, 1usize..5, 1usize..4).prop_flat_map(|(rows, observation, action)| {
        let numbers = |n| prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, n);
        let flags = || prop::collection::vec(any::<bool>(), rows);
        let wide = rows * observation;
        let each = (
            numbers(wide),
            numbers(rows * action),
            numbers(rows),
            numbers(wide),
        );
        (each, flags(), flags()).prop_map(move |(each, terminals, timeouts)| {
            let (observations, actions, rewards, next_observations) = each;
            Table::new(Columns {
                observation,
                action,
                observations,
                actions,
                rewards,
                next_observations,
                terminals,
                timeouts,
            })
            .unwrap()
        })
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(table in tables()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.npz");
        npz::write(&path, &table).unwrap();
        prop_assert_eq!(npz::read(&path).unwrap(), table);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn episodes_are_all_rows_in_order(table in tables()) {
        let mut next = 0;
        for episode in table.episodes() {
            prop_assert!(episode.start == next && episode.end > next);
            prop_assert!((episode.start..episode.end - 1).all(|row| !table.ends(row)));
            next = episode.end;
        }
        prop_assert_eq!(next, table.len());
    }

    #[test]
    fn any_bytes_give_a_table_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut members = members();
        members[0].1 = bytes;
        if let Err(error) = read(&archive(&members, CompressionMethod::Stored)) {
            prop_assert!(error.to_string().starts_with("log.npz: "));
        }
    }
}
