//! Gymnasium's models.

use std::path::{Path, PathBuf};

use mujoco_rs::prelude::*;

use crate::SimError;

/// `GYMNASIUM_ASSETS`, or what `cargo xtask setup` put beside the sources or the binary.
pub(super) fn folder() -> PathBuf {
    if let Some(path) = std::env::var_os("GYMNASIUM_ASSETS") {
        return path.into();
    }
    let native = Path::new(".native/gymnasium");
    let beside = std::env::current_exe().ok().and_then(|exe| {
        let mut places = exe.ancestors().map(|dir| dir.join(native));
        places.find(|place| place.exists())
    });
    beside.unwrap_or_else(|| native.to_owned())
}

/// Reads a model.
pub(super) fn read(path: &Path) -> Result<Box<MjModel>, SimError> {
    let mjcf = std::fs::read_to_string(path).map_err(|e| SimError::MissingModel {
        path: path.display().to_string(),
        reason: e.to_string(),
    })?;
    compile(&mjcf).map_err(|e| SimError::Model(format!("{}: {e}", path.display())))
}

/// HalfCheetah's says what the body weighs by an attribute that MuJoCo warns of each time, on stderr and in a
/// file in the user's folder. So the compiler does not see it, and what it would do is done here.
fn compile(mjcf: &str) -> Result<Box<MjModel>, MjEditError> {
    let mut spec = MjSpec::from_xml_string(mjcf)?;
    let mass_kg = spec.compiler().settotalmass();
    spec.compiler_mut().set_settotalmass(-1.0);
    let mut model = spec.compile()?;
    if mass_kg <= 0.0 {
        return Ok(Box::new(model));
    }
    model.set_totalmass(mass_kg);
    let mut data = MjData::new(Box::new(model));
    data.set_const();
    // By this the solver scales what it tolerates; `set_const` leaves it as it was before.
    let inertias = data.model().dof_m0();
    let mean = inertias.iter().sum::<f64>() / inertias.len() as f64;
    data.model_stat_mut().meaninertia = mean;
    Ok(Box::new(data.model().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_model_and_one_that_is_none_are_named_with_the_remedy() {
        let error = |path: &str| read(Path::new(path)).err().unwrap().to_string();
        let missing = error("/nowhere/hopper.xml");
        assert!(missing.contains("/nowhere/hopper.xml"), "{missing}");
        assert!(missing.contains("cargo xtask setup"), "{missing}");
        let other = error(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        assert!(other.contains("Cargo.toml"), "{other}");
    }

    #[test]
    fn the_cheetah_weighs_what_its_file_says() {
        let cheetah = read(&folder().join("half_cheetah.xml")).unwrap();
        assert!((cheetah.totalmass() - 14.0).abs() < 1e-12);
    }
}
