//! Cameras of the kernel: UVC webcams, the colour stream of a RealSense, and whatever else gives
//! video through V4L2.
//!
//! ```no_run
//! use hilt_drivers::{Camera, v4l2::{V4l2Camera, V4l2Config}};
//! use hilt_protocol::CameraSpec;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = V4l2Config {
//!     device: "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920-video-index0".into(),
//!     width: 640,
//!     height: 480,
//!     fps: 30,
//!     format: Default::default(),
//!     crop: Default::default(),
//!     controls: Default::default(),
//! };
//! let front = CameraSpec { name: "front".into(), height: 128, width: 128 };
//! let mut camera = V4l2Camera::open(config, front)?;
//! let image = camera.newest()?;
//! # Ok(())
//! # }
//! ```
//!
//! - `setup`: a device streams what the rig's file says, or is refused by name.
//! - `feed`: the newest frame, stamped by the kernel; unplugged within 150 ms, back by itself.
//! - `converter`: its bytes become the policy's image. `jpeg`: what is particular to a camera's.
//! - `list`: which cameras there are.
//! - `device`: what of the kernel all this needs. `kernel` and `sys` are the kernel's side of
//!   it, and the only place of system calls and shared memory.
//!
//! There is no thread here. [`V4l2Camera`] waits for the next frame when it is asked for one, on
//! the thread that the robot process has for each camera.
//!
//! Why not a crate. `v4l` needs libclang when it is built, and its streams hand a slow reader old
//! frames and queue buffers that the kernel still owns. `linuxvideo` needs nothing, but keeps a
//! frame's time and number to itself. What is needed are fifteen calls.

mod config;
mod converter;
mod device;
mod error;
mod feed;
mod jpeg;
mod kernel;
mod list;
#[cfg(test)]
mod scripted;
mod setup;
mod sys;

use std::path::Path;

use hilt_protocol::{CameraSpec, Image};
use hilt_realtime::Monotonic;

pub use config::{Controls, Crop, PowerLine, Rectangle, V4l2Config};
pub use converter::Converter;
pub use device::{Colours, FourCc, Identity, Layout, Mode, PixelFormat, Range};
pub use error::{BadFrame, V4l2Error};
pub use feed::Counts;
pub use kernel::Offer;
pub use list::{Found, list};
pub use setup::Granted;

use crate::{Camera, CameraError};
use feed::Feed;
use kernel::Kernel;

/// A camera of the kernel.
#[derive(Debug)]
pub struct V4l2Camera(Feed<Kernel, Monotonic>);

impl V4l2Camera {
    /// Opens it and waits for its first frame, which some give only after a second or two.
    pub fn open(config: V4l2Config, spec: CameraSpec) -> Result<Self, V4l2Error> {
        if !feed::is_stable(&config.device) {
            tracing::warn!(
                "camera `{}` is named {}, which may be another one next time: write the name that \
                 `hilt find-cameras` shows",
                spec.name,
                config.device.display()
            );
        }
        let open = Box::new(|path: &Path| Kernel::open(path));
        let camera = Self(Feed::start(config, spec, open, Monotonic)?);
        if let Some(granted) = camera.granted() {
            let rate = if granted.interval_known {
                format!("{:.1}", 1e9 / granted.interval_ns as f64)
            } else {
                "an unknown number of".to_owned()
            };
            tracing::info!(
                "camera `{}` is {}: {} at {rate} frames/s",
                camera.spec().name,
                granted.identity.card,
                granted.layout.mode
            );
        }
        Ok(camera)
    }

    /// What happened since then.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// What the device granted; nothing while it is gone.
    pub fn granted(&self) -> Option<&Granted> {
        self.0.granted()
    }
}

impl Drop for V4l2Camera {
    fn drop(&mut self) {
        tracing::info!("camera `{}`: {:?}", self.spec().name, self.counts());
    }
}

impl Camera for V4l2Camera {
    fn spec(&self) -> &CameraSpec {
        self.0.spec()
    }

    /// Waits for the next frame, for 150 ms (or two of the device's intervals, if that is longer)
    /// at most.
    fn newest(&mut self) -> Result<Image, CameraError> {
        self.0.newest().map_err(|reason| CameraError::NoFrame {
            name: self.spec().name.clone(),
            reason,
        })
    }

    fn waits(&self) -> bool {
        true
    }
}
