//! The pickle reader against files of Python's, damaged ones, and ones that mean harm.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{io::Cursor, path::Path};

use hilt_recording::pickle::{DType, Outline, Pickle, PickleFault};
use proptest::prelude::*;

fn fixture(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    std::fs::read(dir.join(name)).unwrap()
}

const FIXTURES: [&str; 3] = [
    "weights_jax_p4.pkl",
    "weights_numpy1_p3.pkl",
    "weights_frozen_p5.pkl",
];

fn fault(bytes: &[u8]) -> PickleFault {
    Pickle::read(bytes).unwrap_err().fault
}

/// Protocol 4 without frames.
fn program(operations: &[&[u8]]) -> Vec<u8> {
    [b"\x80\x04", &operations.concat()[..], b"."].concat()
}

#[test]
fn arrays_of_every_layout_are_the_numbers_that_python_wrote() {
    for name in FIXTURES {
        let bytes = fixture(name);
        let pickle = Pickle::read(&bytes).unwrap();
        let module = pickle.root().get("ResNetBlock_1").unwrap();
        let kernel = module.get("Conv_0").unwrap().get("kernel").unwrap();
        let array = kernel.array().unwrap();
        assert_eq!(array.shape(), [3, 3, 4, 8], "{name}");
        let letters = "ResNetBlock_1/Conv_0/kernel".len();
        let want = (0..288).map(|i| ((7 * i + letters) % 101) as f32 / 64.0 - 50.0 / 64.0);
        assert_eq!(array.floats().unwrap(), want.collect::<Vec<_>>(), "{name}");
        assert!(kernel.get("kernel").is_none() && kernel.items().is_none());
    }
    let bytes = fixture(FIXTURES[2]);
    let pickle = Pickle::read(&bytes).unwrap();
    let norm = pickle.root().get("norm_init").unwrap();
    assert_eq!(norm.entries().unwrap().len(), 2);
    let scale = norm.get("scale").unwrap();
    assert_eq!(scale.array().unwrap().dtype(), DType::Float(8));
    assert_eq!(scale.describe(), "a float64 array of shape [4]");
}

#[test]
fn numbers_are_those_that_python_wrote() {
    let number = |operations: &[u8]| {
        Pickle::read(&program(&[operations]))
            .unwrap()
            .root()
            .number()
    };
    for (operations, wanted) in [
        (b"\x88".as_slice(), Some(1.0)),
        (b"J\xfe\xff\xff\xff", Some(-2.0)),
        (b"\x8a\x06\0\0\0\0\0\x80", Some(-140_737_488_355_328.0)),
        (b"G\xbf\xf8\0\0\0\0\0\0", Some(-1.5)),
        (b"\x8c\x011", None),
        (b"K\x01\x85", None),
        (b"N", None),
        // numpy.float32(0.5), and a bool.
        (
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02f4\x89\x88\x87RC\x04\0\0\0?\x86R",
            Some(0.5),
        ),
        (
            b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02b1\x89\x88\x87RC\x01\x01\x86R",
            Some(1.0),
        ),
    ] {
        assert_eq!(number(operations), wanted, "{operations:?}");
    }
    let text = program(&[b"\x8c\x03abc"]);
    assert_eq!(Pickle::read(&text).unwrap().root().text(), Some("abc"));
}

/// Protocol 2 has no bytes: it has texts that are to be encoded as Latin-1.
#[test]
fn an_array_of_protocol_2_is_the_same_in_the_file_as_in_memory() {
    let bytes: Vec<u8> = (0..3000).map(|i| (i % 256) as u8).collect();
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let array = |text: &str| {
        let length = (text.len() as u32).to_le_bytes();
        program(&[
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01M\xb8\x0b\x85",
            b"cnumpy\ndtype\n\x8c\x02u1\x89\x88\x87R\x89c_codecs\nencode\nX",
            &length,
            text.as_bytes(),
            b"\x8c\x06latin1\x86Rtb",
        ])
    };
    let file = array(&text);
    let whole = Pickle::read(&file).unwrap();
    assert_eq!(whole.root().array().unwrap().row_major(), bytes);

    let mut reader = Cursor::new(&file);
    let outline = Outline::of(&mut reader, file.len() as u64).unwrap();
    let outlined = Pickle::of_outline(&outline).unwrap();
    assert!(outlined.root().array().is_none());
    let far = outlined.root().far_array().unwrap();
    assert_eq!(
        (far.shape(), far.dtype()),
        (&[3000][..], DType::Unsigned(1))
    );
    assert_eq!(far.read(&mut reader).unwrap().row_major(), bytes);
    // The file has changed: it is shorter, or its text another.
    let cut = far
        .read(&mut Cursor::new(&file[..file.len() / 2]))
        .unwrap_err();
    assert!(cut.to_string().contains("has changed"), "{cut}");
    let place = far.place() as usize;
    let other = [&file[..place], "€".as_bytes(), &file[place + 3..]].concat();
    assert!(far.read(&mut Cursor::new(&other)).is_err());

    // A euro is no byte, wherever it stands.
    for text in [text.replace('b', "€"), text.clone() + "\u{100}"] {
        let file = array(&text);
        touch(&file);
        assert!(matches!(fault(&file), PickleFault::Form(_)));
    }
}

#[test]
fn protocols_0_and_1_are_refused_by_name() {
    for bytes in [b"(lp0\n.".as_slice(), b"(dp0\n.", b"]q\0.", b"}q\0."] {
        assert_eq!(fault(bytes), PickleFault::Old);
    }
    for bytes in [b"".as_slice(), b"\x80\x06N.", b"\x80\x01N.", b"text"] {
        assert_eq!(fault(bytes), PickleFault::Protocol);
    }
}

#[test]
fn whatever_is_not_data_is_refused_by_name() {
    let harm: [(&[u8], &str); 5] = [
        // os.system("…"), in the ways in which a pickle can say it.
        (b"cposix\nsystem\n\x8c\x02ls\x85R", "posix.system"),
        (
            b"\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R",
            "posix.system",
        ),
        (b"c__builtin__\neval\n", "__builtin__.eval"),
        // numpy itself can load pickles and evaluate texts.
        (b"cnumpy\nload\n", "numpy.load"),
        (
            b"cnumpy.core.multiarray\n_reconstruct.__globals__\n",
            "__globals__",
        ),
    ];
    for (bytes, name) in harm {
        let error = Pickle::read(&program(&[bytes])).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("nothing was run"),
            "{error}"
        );
    }
    // INST, OBJ, NEWOBJ, EXT1, PERSID: other ways to build and to fetch things.
    for operation in [b'i', b'o', 0x81, 0x82, b'P', b'Q'] {
        assert_eq!(
            fault(&program(&[&[operation]])),
            PickleFault::Operation(operation)
        );
    }
    // What is known may not be used for anything else either.
    let called = program(&[b"cnumpy\nndarray\n)R"]);
    assert!(matches!(fault(&called), PickleFault::Form(_)));
    let stated = program(&[b"]\x8c\x01x\x85b"]);
    assert!(matches!(fault(&stated), PickleFault::Form(_)));
}

/// A name that does not end, control characters in it.
#[test]
fn a_name_is_shown_short_and_escaped() {
    let long = [b"c".as_slice(), &[b'a'; 5000], b"\x1b\nb\n"].concat();
    let error = Pickle::read(&program(&[&long])).unwrap_err().to_string();
    assert!(error.len() < 250 && !error.contains('\x1b'), "{error}");
}

#[test]
fn lengths_and_shapes_that_lie_are_refused() {
    // 2⁶⁴ − 1 bytes of text, of bytes; 4 GiB of text.
    for bytes in [
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff".as_slice(),
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"X\xff\xff\xff\xff",
    ] {
        assert_eq!(fault(&program(&[bytes])), PickleFault::Ends);
    }
    // An array of 2³¹ × 2³¹ × 16 numbers in four bytes, one of −1, one of none of 2³¹ × 0.
    let array = |shape: &[u8]| {
        program(&[
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01",
            shape,
            b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R\x89C\x04\0\0\0\0tb",
        ])
    };
    for shape in [
        b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7fK\x10\x87".as_slice(),
        b"J\xff\xff\xff\xff\x85",
        b"J\xff\xff\xff\x7fK\0\x86",
        b"K\x02\x85",
    ] {
        assert!(
            matches!(fault(&array(shape)), PickleFault::Form(_)),
            "{shape:?}"
        );
    }
    assert!(Pickle::read(&array(b"K\x01\x85")).is_ok());
    let endless: Vec<u8> = [b"\x80\x04".as_slice(), &[b'N'; 5_000_000]].concat();
    assert_eq!(fault(&endless), PickleFault::TooMany);
}

#[test]
fn values_that_contain_themselves_or_each_other_many_times_are_only_that() {
    // {"a": itself}
    let itself = program(&[b"}\x94\x8c\x01ah\0s"]);
    let pickle = Pickle::read(&itself).unwrap();
    let mut value = pickle.root();
    for _ in 0..100 {
        value = value.get("a").unwrap();
    }
    assert_eq!(value.describe(), "a dictionary");
    // Each pair holds the one before twice: 2²⁰⁰ leaves.
    let doubled: Vec<u8> = (0..200u8)
        .flat_map(|i| [b'h', i, b'h', i, 0x86, 0x94])
        .collect();
    let laughs = program(&[b"(N\x94", &doubled, b"t"]);
    let pickle = Pickle::read(&laughs).unwrap();
    let mut value = pickle.root().items().unwrap().last().unwrap();
    for _ in 0..200 {
        value = value.items().unwrap().last().unwrap();
    }
    assert_eq!(value.describe(), "None");
}

/// Every cut is an error, and no damaged byte makes it panic (or take long).
#[test]
fn damaged_files_are_errors_or_other_values() {
    for name in FIXTURES {
        let whole = fixture(name);
        for length in 0..whole.len() {
            assert!(
                Pickle::read(&whole[..length]).is_err(),
                "{name} cut at {length}"
            );
        }
        assert!(Pickle::read(&[&whole[..], b"N"].concat()).is_err());
        let mut damaged = whole.clone();
        for place in 0..whole.len() {
            let bytes = [0, 0xff, whole[place] ^ 1, whole[place] ^ 0x80];
            damaged[place] = bytes[place % 4];
            touch(&damaged);
            damaged[place] = whole[place];
        }
    }
}

/// Reads, and looks at what was read. An outline says the same.
fn touch(bytes: &[u8]) {
    let outline = Outline::of(Cursor::new(bytes), bytes.len() as u64).unwrap();
    let outlined = Pickle::of_outline(&outline);
    let whole = Pickle::read(bytes);
    let (Ok(pickle), Ok(outlined)) = (&whole, &outlined) else {
        assert_eq!(whole.err(), outlined.err());
        return;
    };
    assert_eq!(pickle.root().describe(), outlined.root().describe());
    let mut values = vec![pickle.root()];
    for _ in 0..1000 {
        let Some(value) = values.pop() else { break };
        let _ = (
            value.describe(),
            value.array().map(|a| (a.floats(), a.row_major())),
        );
        values.extend(value.entries().into_iter().flatten().map(|(_, v)| v));
        values.extend(value.items().into_iter().flatten());
    }
}

/// Operations with plausible arguments, so that programs come far.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(&b"(N\x88\x89)t\x85\x86\x87]ae}su\x94\x93Rb.0"[..]);
    const GLOBALS: [&str; 9] = [
        "cnumpy.core.multiarray\n_reconstruct\n",
        "cnumpy\nndarray\n",
        "cnumpy\ndtype\n",
        "cnumpy.core.multiarray\nscalar\n",
        "cnumpy.core.numeric\n_frombuffer\n",
        "cjax._src.array\n_reconstruct_array\n",
        "cflax.core.frozen_dict\nFrozenDict\n",
        "ccollections\nOrderedDict\n",
        "\x0cx\n",
    ];
    prop_oneof![
        4 => plain.prop_map(|byte| vec![byte]),
        2 => prop::sample::select(&GLOBALS[..]).prop_map(|g| g.as_bytes().to_vec()),
        2 => prop::sample::select(&["f4", "u1", "<", "F", "a"][..])
            .prop_map(|t| [&[0x8c, t.len() as u8], t.as_bytes()].concat()),
        2 => any::<u8>().prop_map(|n| vec![b'K', n % 5]),
        2 => any::<u8>().prop_map(|n| vec![b'h', n % 8]),
        1 => prop::collection::vec(any::<u8>(), 0..9)
            .prop_map(|b| [&[b'C', b.len() as u8], &b[..]].concat()),
        1 => any::<i32>().prop_map(|n| [&b"J"[..], &n.to_le_bytes()].concat()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        touch(&bytes);
        touch(&program(&[&bytes]));
    }

    #[test]
    fn no_program_makes_it_panic(operations in prop::collection::vec(operation(), 0..60)) {
        touch(&program(&[&operations.concat()]));
    }
}
