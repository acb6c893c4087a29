//! Encoder weights from the files that people have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use hilt_learner::encoder::{Encoder, EncoderConfig};
use tch::{Device, Kind, Tensor};

/// What `fixtures/make_pickles.py` wrote.
fn narrow() -> EncoderConfig {
    EncoderConfig {
        image_size: 16,
        stem_kernel: 3,
        stem_pool: true,
        widths: vec![4, 8],
        groups: 4,
    }
}

fn encoder(config: EncoderConfig) -> Encoder {
    Encoder::new(config, Kind::Float, Device::Cpu, 1)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../core/recording/tests/fixtures")
        .join(name)
}

/// Number `i` of the parameter of that name, in flax's order.
fn number(name: &str, i: i64) -> f64 {
    ((7 * i + name.len() as i64) % 101 - 50) as f64 / 64.0
}

fn check(encoder: &Encoder, what: &str) {
    for name in encoder.params().names() {
        let tensor = encoder.params().get(name);
        let value = |place: &[i64]| tensor.double_value(place);
        match tensor.size()[..] {
            [outputs, inputs, height, width] => {
                for h in 0..height {
                    for w in 0..width {
                        for i in 0..inputs {
                            for o in 0..outputs {
                                let place = ((h * width + w) * inputs + i) * outputs + o;
                                assert_eq!(
                                    value(&[o, i, h, w]),
                                    number(name, place),
                                    "{what} {name}"
                                );
                            }
                        }
                    }
                }
            }
            [n] => (0..n).for_each(|i| assert_eq!(value(&[i]), number(name, i), "{what} {name}")),
            _ => panic!("{name}"),
        }
    }
}

/// jax arrays with the ImageNet head beside them, as the published file; numpy 1's; flax's frozen
/// dictionary around column-major double precision.
#[test]
fn every_way_to_write_the_pickle_gives_the_same_weights() {
    for name in [
        "weights_jax_p4.pkl",
        "weights_numpy1_p3.pkl",
        "weights_frozen_p5.pkl",
    ] {
        let encoder = encoder(narrow());
        encoder.load(&fixture(name)).unwrap();
        check(&encoder, name);
    }
}

/// Kernels in this program's order and in flax's.
#[test]
fn safetensors_of_either_order_give_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    let one = encoder(narrow());
    one.load(&fixture("weights_jax_p4.pkl")).unwrap();
    one.save(&path).unwrap();
    let two = encoder(narrow());
    two.load(&path).unwrap();
    check(&two, "ours");
    let flax = |name: &String| {
        let tensor = one.params().get(name).detach();
        let tensor = match tensor.dim() {
            4 => tensor.permute([2, 3, 1, 0]).contiguous(),
            _ => tensor,
        };
        (name.clone(), tensor)
    };
    let mut tensors: Vec<(String, Tensor)> = one.params().names().iter().map(flax).collect();
    tensors.push((
        "output_head/bias".to_owned(),
        Tensor::ones([2], (Kind::Float, Device::Cpu)),
    ));
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let three = encoder(narrow());
    three.load(&path).unwrap();
    check(&three, "flax's");
}

fn refused(config: EncoderConfig, path: &Path) -> String {
    let encoder = encoder(config);
    let before = encoder.hash();
    let error = encoder.load(path).unwrap_err().to_string();
    assert_eq!(encoder.hash(), before, "a refused file changed something");
    assert!(
        error.contains(path.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
    error
}

#[test]
fn a_file_for_another_encoder_names_file_weight_and_shapes() {
    let file = fixture("weights_jax_p4.pkl");
    let wider = EncoderConfig {
        widths: vec![4, 16],
        ..narrow()
    };
    let error = refused(wider, &file);
    assert!(error.contains("`ResNetBlock_1/Conv_0/kernel`"), "{error}");
    assert!(
        error.contains("[3, 3, 4, 8]") && error.contains("[3, 3, 4, 16]"),
        "{error}"
    );
    let deeper = EncoderConfig {
        widths: vec![4, 8, 8],
        ..narrow()
    };
    let error = refused(deeper, &file);
    assert!(
        error.contains("`ResNetBlock_2/Conv_0/kernel` is missing"),
        "{error}"
    );
    let shallower = EncoderConfig {
        widths: vec![4],
        ..narrow()
    };
    let error = refused(shallower, &file);
    assert!(error.contains("`ResNetBlock_1` is no weight"), "{error}");
}

#[test]
fn files_that_hold_no_weights_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let error = |name: &str, bytes: &[u8]| refused(narrow(), &file(name, bytes));
    assert!(refused(narrow(), &dir.path().join("absent.pkl")).contains("No such file"));
    assert!(refused(narrow(), &dir.path().join("absent.safetensors")).contains("No such file"));
    assert!(error("weights.pth", b"PK").contains(".safetensors"));
    assert!(error("text.pkl", b"hello").contains("no pickle"));
    assert!(error("text.safetensors", b"hello").len() > 20);
    assert!(error("list.pkl", b"\x80\x04].").contains("a list"));
    // {"conv_init": {"kernel": None}}, {"conv_init": itself}
    let none = b"\x80\x04}\x8c\x09conv_init}\x8c\x06kernelNss.";
    assert!(error("none.pkl", none).contains("`conv_init/kernel` is None"));
    let itself = b"\x80\x04}\x94\x8c\x09conv_inith\0s.";
    assert!(error("itself.pkl", itself).contains("`conv_init/conv_init` is no weight"));
    let harm = b"\x80\x04cposix\nsystem\n\x8c\x02ls\x85R.";
    assert!(error("harm.pkl", harm).contains("posix.system"));
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.safetensors");
    let one = encoder(narrow());
    one.params().set(
        "norm_init/bias",
        &Tensor::from_slice(&[0f32, f32::NAN, 0.0, 0.0]),
    );
    one.save(&path).unwrap();
    let error = refused(narrow(), &path);
    assert!(
        error.contains("`norm_init/bias`") && error.contains("not finite"),
        "{error}"
    );
}
