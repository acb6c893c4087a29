//! Running exported graphs.

use std::sync::OnceLock;

use hilt_learner::nn::params::to_named;
use hilt_protocol::NamedTensor;
use ort::{
    environment::Environment,
    session::{Session, builder::SessionBuilder},
    value::Tensor as OrtTensor,
};
use tch::Tensor;

/// A session to be; the library opens once per process.
pub fn builder() -> SessionBuilder {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(|| {
        ort::init_from(std::env::var("ORT_DYLIB_PATH").unwrap())
            .unwrap()
            .build()
            .unwrap()
    });
    Session::builder(environment).unwrap()
}

pub fn session(onnx: &[u8]) -> Session {
    builder().commit_from_memory(onnx).unwrap()
}

/// Runs a graph on f32 inputs (bytes for those named `image.*`); the one output, flat.
pub fn run(onnx: &[u8], inputs: &[NamedTensor]) -> Vec<f32> {
    let mut session = session(onnx);
    let inputs: Vec<_> = inputs
        .iter()
        .map(|t| {
            let (shape, data) = (t.shape.clone(), t.data.clone());
            let value = if t.name.starts_with("image.") {
                let bytes: Vec<u8> = data.iter().map(|&v| v as u8).collect();
                OrtTensor::from_array((shape, bytes)).unwrap().into_dyn()
            } else {
                OrtTensor::from_array((shape, data)).unwrap().into_dyn()
            };
            (t.name.clone(), value)
        })
        .collect();
    let outputs = session.run(inputs).unwrap();
    outputs[0].try_extract_tensor::<f32>().unwrap().1.to_vec()
}

/// Every number of `got` within `tolerance` of that of `want`.
pub fn close(what: &str, got: &[f32], want: &Tensor, tolerance: f32) {
    let want = to_named("", want).data;
    assert_eq!(got.len(), want.len(), "{what}");
    for (g, w) in got.iter().zip(&want) {
        assert!((g - w).abs() <= tolerance, "{what}: {got:?}\n{want:?}");
    }
}
