//! Bakes the places of libtorch and libmujoco into tests and benches, so that they run without any
//! export.
fn main() {
    for (variable, below) in [("LIBTORCH", "/lib"), ("MUJOCO_DYNAMIC_LINK_DIR", "")] {
        println!("cargo:rerun-if-env-changed={variable}");
        if let Ok(folder) = std::env::var(variable) {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}{below}");
        }
    }
}
