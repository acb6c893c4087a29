//! Whether what headless rendering loads at run time is there.

use std::ffi::{CStr, c_char};

use crate::SimError;

/// Whether cameras can be rendered here: looks for EGL by name, because the renderer's own error
/// does not say which file is missing. Everything else (OpenGL, the driver) is reached through it.
pub fn check_rendering_libraries() -> Result<(), SimError> {
    check(c"libEGL.so.1")
}

fn check(library: &CStr) -> Result<(), SimError> {
    // SAFETY: a valid C string; loading a system library that stays loaded, as the renderer itself
    // does.
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: dlerror gives null or a C string that lives until this thread's next dl call.
    let message: *const c_char = unsafe { libc::dlerror() };
    let reason = if message.is_null() {
        "not found".to_owned()
    } else {
        // SAFETY: not null, see above.
        unsafe { CStr::from_ptr(message) }
            .to_string_lossy()
            .into_owned()
    };
    Err(SimError::MissingLibrary {
        library: library.to_string_lossy().into_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_its_remedy() {
        let error = check(c"libhilt_does_not_exist.so.9")
            .unwrap_err()
            .to_string();
        assert!(error.contains("libhilt_does_not_exist.so.9"), "{error}");
        assert!(error.contains("cargo xtask setup"), "{error}");
    }
}
