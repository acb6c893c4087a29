//! Reading golden files: one `.safetensors` per case, hyperparameters in its metadata.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod generative;
pub mod npz;
pub mod on_task;
pub mod onnx;
pub mod robot;
pub mod sound;
pub mod stage;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tch::{Kind, Tensor};

/// One golden case.
pub struct Golden {
    /// The file's tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// The file's metadata.
    pub metadata: std::collections::HashMap<String, String>,
}

/// `HILT_GOLDEN`, or the repository's own `tests/golden`.
pub fn folder() -> PathBuf {
    std::env::var_os("HILT_GOLDEN").map_or_else(own_folder, PathBuf::from)
}

fn own_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

impl Golden {
    /// Reads `<stem>.safetensors`; a missing file fails the test.
    pub fn read(stem: &str) -> Self {
        Self::read_in(&folder(), stem)
    }

    /// The same in the repository's own folder, whatever `HILT_GOLDEN` says: for what a test knows of its file.
    pub fn read_own(stem: &str) -> Self {
        Self::read_in(&own_folder(), stem)
    }

    fn read_in(folder: &Path, stem: &str) -> Self {
        let path = folder.join(format!("{stem}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let tensors = Tensor::read_safetensors(&path)
            .unwrap()
            .into_iter()
            .collect();
        Self { tensors, metadata }
    }

    /// The hyperparameters.
    pub fn hyperparameters(&self) -> serde_json::Value {
        serde_json::from_str(&self.metadata["hyperparameters"]).unwrap()
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("the golden file has no `{name}`"))
    }

    /// Names and tensors that begin with a prefix, without it.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.tensors
            .iter()
            .filter_map(move |(name, t)| Some((name.strip_prefix(prefix)?, t)))
    }
}

/// Largest difference relative to the largest expected entry.
pub fn error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let (got, want) = (
        got.detach().to_kind(Kind::Double),
        want.to_kind(Kind::Double),
    );
    let scale = want.abs().max().double_value(&[]).max(1e-3);
    (got - want).abs().max().double_value(&[]) / scale
}
