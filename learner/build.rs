//! Bakes the places of libtorch and libmujoco into the binaries, so that they run without any export.
fn main() {
    let mut libraries = vec![("LIBTORCH", "/lib")];
    if std::env::var_os("CARGO_FEATURE_SIM").is_some() {
        libraries.push(("MUJOCO_DYNAMIC_LINK_DIR", ""));
    }
    for (variable, below) in libraries {
        println!("cargo:rerun-if-env-changed={variable}");
        if let Ok(folder) = std::env::var(variable) {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}{below}");
        }
    }
}
