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

/// A camera whose driver stamps frames some time after they were taken: what they show was so long before.
/// How long is measured once, and is the camera's own.
#[derive(Debug)]
pub struct Backdated<C> {
    camera: C,
    latency_ns: u64,
}

impl<C> Backdated<C> {
    /// Takes `latency_ns` off the time of capture of each frame.
    pub fn new(camera: C, latency_ns: u64) -> Self {
        Self { camera, latency_ns }
    }
}

impl<C: Camera> Camera for Backdated<C> {
    fn spec(&self) -> &CameraSpec {
        self.camera.spec()
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        let mut image = self.camera.newest()?;
        image.captured_ns = image.captured_ns.saturating_sub(self.latency_ns);
        Ok(image)
    }

    fn waits(&self) -> bool {
        self.camera.waits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    struct Stamped(CameraSpec, u64);

    impl Camera for Stamped {
        fn spec(&self) -> &CameraSpec {
            &self.0
        }

        fn newest(&mut self) -> Result<Image, CameraError> {
            self.1 += 33_000_000;
            Ok(crate::bars::draw(&self.0, &[0.5], self.1))
        }
    }

    #[test]
    fn a_late_camera_says_when_its_frames_were_taken() {
        let spec = CameraSpec {
            name: "late".into(),
            height: 16,
            width: 16,
        };
        let mut camera = Backdated::new(Stamped(spec, 0), 50_000_000);
        // The first would be from before the clock began.
        assert_eq!(camera.newest().unwrap().captured_ns, 0);
        assert_eq!(camera.newest().unwrap().captured_ns, 16_000_000);
        let mut now_ns = 100_000_000;
        conformance::camera(&mut camera, |pass_ns| {
            now_ns += pass_ns;
            now_ns
        })
        .unwrap();
    }
}
