//! Cameras.

use hilt_protocol::{CameraSpec, Image};

/// Why there is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CameraError {
    /// The device gives none.
    #[error("camera `{name}` gives no frame: {reason}")]
    NoFrame {
        /// The camera.
        name: String,
        /// Its words.
        reason: String,
    },
}

/// A camera at the policy's size.
pub trait Camera {
    /// Name and size of its frames.
    fn spec(&self) -> &CameraSpec;

    /// The newest frame, with the time of its capture, which never runs backwards.
    fn newest(&mut self) -> Result<Image, CameraError>;

    /// Whether [`Camera::newest`] waits for a frame that is new. One that does has a pace of its own;
    /// the others draw or give what they have whenever they are asked.
    fn waits(&self) -> bool {
        false
    }
}

impl<T: Camera + ?Sized> Camera for Box<T> {
    fn spec(&self) -> &CameraSpec {
        (**self).spec()
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        (**self).newest()
    }

    fn waits(&self) -> bool {
        (**self).waits()
    }
}
