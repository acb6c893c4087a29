//! An encoder's weights from a file: `.safetensors`, or the `.pkl` that HIL-SERL loads.
//!
//! HIL-SERL's `resnet10_params.pkl` (its `load_resnet10_params`) is a dictionary of modules, each a
//! dictionary of `kernel`, or of `scale` and `bias`, or of modules again; kernels are \[h, w, in,
//! out\]. The names are this encoder's own. The ImageNet classifier that stood on it comes along as
//! `output_head` and is left out.
//!
//! A `.safetensors` file has the same names with slashes between them. Its kernels are \[out, in, h,
//! w\], as this program writes them, or \[h, w, in, out\], as somebody who converted a `.pkl` has
//! them: the shape tells which.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use tch::{Kind, Tensor};

use hilt_recording::pickle::{Pickle, PickleError, Value};

/// The part of HIL-SERL's file that is no part of the encoder.
const HEAD: &str = "output_head";

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct WeightsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: WeightsFault,
}

/// What is wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsFault {
    /// The file system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its name does not say what it is.
    #[error("weights are read from .pkl and .safetensors files; rename it if it is one")]
    Ending,
    /// It is no pickle of weights.
    #[error("{0}")]
    Pickle(#[from] PickleError),
    /// It is no safetensors file.
    #[error("{0}")]
    Safetensors(#[from] tch::TchError),
    /// A weight is not there.
    #[error("`{0}` is missing; the file belongs to another encoder than [encoder] describes")]
    Missing(String),
    /// Something is there that the encoder does not have.
    #[error("`{0}` is no weight of the encoder that [encoder] describes")]
    Unknown(String),
    /// A weight is something else than numbers.
    #[error("`{name}` is {found}, not an array of floating-point numbers")]
    Type {
        /// The weight.
        name: String,
        /// What it is.
        found: String,
    },
    /// A weight has another shape. Both are in the file's order of dimensions.
    #[error("`{name}` has shape {found:?}; the encoder that [encoder] describes needs {needed:?}")]
    Shape {
        /// The weight.
        name: String,
        /// Its shape in the file.
        found: Vec<i64>,
        /// The encoder's.
        needed: Vec<i64>,
    },
    /// A weight cannot be computed with.
    #[error("`{0}` holds a number that is not finite")]
    NotFinite(String),
}

/// Reads the weights of these names and shapes, kernels \[out, in, h, w\], and no others.
pub fn read(
    path: &Path,
    shapes: &BTreeMap<String, Vec<i64>>,
) -> Result<Vec<(String, Tensor)>, WeightsError> {
    let read = match path.extension().and_then(|e| e.to_str()) {
        Some("pkl") => read_pickle(path, shapes),
        Some("safetensors") => read_safetensors(path, shapes),
        _ => Err(WeightsFault::Ending),
    };
    read.and_then(|found| complete(found, shapes))
        .map_err(|fault| WeightsError {
            path: path.to_owned(),
            fault,
        })
}

fn complete(
    found: BTreeMap<String, Tensor>,
    shapes: &BTreeMap<String, Vec<i64>>,
) -> Result<Vec<(String, Tensor)>, WeightsFault> {
    if let Some(name) = shapes.keys().find(|&name| !found.contains_key(name)) {
        return Err(WeightsFault::Missing(name.clone()));
    }
    let bad = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 0;
    if let Some((name, _)) = found.iter().find(|(_, tensor)| bad(tensor)) {
        return Err(WeightsFault::NotFinite(name.clone()));
    }
    Ok(found.into_iter().collect())
}

/// A kernel's \[out, in, h, w\] as \[h, w, in, out\]; other shapes as they are.
fn flax_shape(shape: &[i64]) -> Vec<i64> {
    match *shape {
        [o, i, h, w] => vec![h, w, i, o],
        _ => shape.to_vec(),
    }
}

fn from_flax(tensor: &Tensor) -> Tensor {
    match tensor.dim() {
        4 => tensor.permute([3, 2, 0, 1]),
        _ => tensor.shallow_clone(),
    }
}

fn read_safetensors(
    path: &Path,
    shapes: &BTreeMap<String, Vec<i64>>,
) -> Result<BTreeMap<String, Tensor>, WeightsFault> {
    // A missing file is the file system's to name.
    std::fs::metadata(path)?;
    let mut found = BTreeMap::new();
    for (name, tensor) in Tensor::read_safetensors(path)? {
        if name.split('/').next() == Some(HEAD) {
            continue;
        }
        let needed = (shapes.get(&name)).ok_or_else(|| WeightsFault::Unknown(name.clone()))?;
        if !matches!(tensor.kind(), Kind::Half | Kind::Float | Kind::Double) {
            let found = format!("of type {:?}", tensor.kind());
            return Err(WeightsFault::Type { name, found });
        }
        let tensor = match tensor.size() {
            ours if ours == *needed => tensor,
            theirs if theirs == flax_shape(needed) => from_flax(&tensor),
            size => {
                return Err(WeightsFault::Shape {
                    name,
                    found: size,
                    needed: needed.clone(),
                });
            }
        };
        found.insert(name, tensor);
    }
    Ok(found)
}

fn read_pickle(
    path: &Path,
    shapes: &BTreeMap<String, Vec<i64>>,
) -> Result<BTreeMap<String, Tensor>, WeightsFault> {
    let bytes = std::fs::read(path)?;
    let pickle = Pickle::read(&bytes)?;
    let mut found = BTreeMap::new();
    collect(pickle.root(), "", shapes, &mut found)?;
    Ok(found)
}

/// Takes the weights below a module. Goes only where a name of the encoder leads, so that a file
/// that contains itself ends it too.
fn collect(
    module: Value<'_, '_>,
    name: &str,
    shapes: &BTreeMap<String, Vec<i64>>,
    found: &mut BTreeMap<String, Tensor>,
) -> Result<(), WeightsFault> {
    if let Some(shape) = shapes.get(name) {
        found.insert(name.to_owned(), weight(module, name, &flax_shape(shape))?);
        return Ok(());
    }
    let Some(entries) = module.entries() else {
        return Err(match name {
            "" => WeightsFault::Type {
                name: "the whole file".to_owned(),
                found: module.describe() + ", not a dictionary of modules",
            },
            _ => WeightsFault::Unknown(name.to_owned()),
        });
    };
    for (key, value) in entries {
        let path = match name {
            "" if key == HEAD => continue,
            "" => key.to_owned(),
            _ => format!("{name}/{key}"),
        };
        let leads_on = |known: &String| {
            (known.strip_prefix(&path)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !shapes.keys().any(leads_on) {
            return Err(WeightsFault::Unknown(path.chars().take(200).collect()));
        }
        collect(value, &path, shapes, found)?;
    }
    Ok(())
}

fn weight(value: Value<'_, '_>, name: &str, shape: &[i64]) -> Result<Tensor, WeightsFault> {
    let other = || WeightsFault::Type {
        name: name.to_owned(),
        found: value.describe(),
    };
    let array = value.array().ok_or_else(other)?;
    let found: Vec<i64> = array.shape().iter().map(|&side| side as i64).collect();
    if found != shape {
        return Err(WeightsFault::Shape {
            name: name.to_owned(),
            found,
            needed: shape.to_vec(),
        });
    }
    let numbers = array.floats().ok_or_else(other)?;
    Ok(from_flax(&Tensor::from_slice(&numbers).view(shape)))
}
