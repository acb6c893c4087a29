//! CUDA's libraries, for ONNX Runtime's CUDA and TensorRT providers.
//!
//! The providers name the libraries that they need without saying where. `cargo xtask setup` has
//! them, beside libtorch; what is open already is found by its name.

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What `libonnxruntime_providers_cuda.so` 1.31 needs, and what cuDNN opens later. The order is that
/// of need: a library's own needs come before it.
const LIBRARIES: [&str; 6] = [
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libnvrtc.so.13",
    "libcudnn.so.9",
];

/// Opens those of CUDA's libraries that lie beside this ONNX Runtime (`.native/onnxruntime/…` and
/// `.native/libtorch/nvidia/…/lib/`), for the whole process. What is not there the system may have.
pub fn preload(onnxruntime: &Path) {
    let native = onnxruntime.parent().and_then(Path::parent);
    let Some(nvidia) = native.map(|native| native.join("libtorch/nvidia")) else {
        return;
    };
    let folders = library_folders(&nvidia);
    for name in LIBRARIES {
        let found = folders
            .iter()
            .map(|dir| dir.join(name))
            .find(|p| p.exists());
        let Some(Ok(path)) = found.map(|path| CString::new(path.as_os_str().as_bytes())) else {
            continue;
        };
        // SAFETY: a C string; opening runs the library's constructors, which CUDA's allow at any
        // time and on any thread. It stays open to the end.
        let open = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if open.is_null() {
            tracing::warn!("{} cannot be opened", path.to_string_lossy());
        }
    }
}

/// `nvidia/<part>/lib`.
fn library_folders(nvidia: &Path) -> Vec<PathBuf> {
    let parts = std::fs::read_dir(nvidia).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = parts.map(|part| part.path().join("lib")).collect();
    folders.sort();
    folders
}
