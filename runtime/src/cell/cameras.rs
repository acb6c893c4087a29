//! The cameras of a rig in real time: a thread each, which keeps its newest frame at hand.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use hilt_drivers::{Camera, CameraError};
use hilt_protocol::Image;
use hilt_realtime::{Clock, Monotonic};

use crate::control::FrameTimes;

/// The newest of a camera; `None` before its first frame. Locked for a pointer move only, and never
/// by the control thread.
type Slot = Arc<Mutex<Option<Result<Image, CameraError>>>>;

/// Where the newest frames are.
pub(super) struct Cameras {
    slots: Vec<Slot>,
    names: Vec<String>,
}

/// A camera, and where its frames go: what a camera's thread works on.
pub struct Eye {
    camera: Box<dyn Camera + Send>,
    index: usize,
    slot: Slot,
    times: Arc<FrameTimes>,
}

/// A camera is asked so often, at most.
const PERIOD_NS: u64 = 1_000_000_000 / 30;
/// One that has a pace of its own makes its thread wait; and where it is gone, that thread must not
/// take a core for itself.
const WAITING_PERIOD_NS: u64 = 4_000_000;

impl Eye {
    /// Takes the camera's newest frame and tells of it.
    pub fn look(&mut self) {
        let frame = self.camera.newest();
        if let Ok(image) = &frame {
            self.times.set(self.index, image.captured_ns);
        }
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
    }
}

impl Cameras {
    /// Both sides of `cameras`: where their frames are, and what looks for them and tells `times` of
    /// every one.
    pub(super) fn new(
        cameras: Vec<Box<dyn Camera + Send>>,
        times: &Arc<FrameTimes>,
    ) -> (Self, Vec<Eye>) {
        let names = cameras.iter().map(|c| c.spec().name.clone()).collect();
        let eyes: Vec<_> = cameras
            .into_iter()
            .enumerate()
            .map(|(index, camera)| Eye {
                camera,
                index,
                slot: Slot::default(),
                times: Arc::clone(times),
            })
            .collect();
        let slots = eyes.iter().map(|eye| Arc::clone(&eye.slot)).collect();
        (Self { slots, names }, eyes)
    }

    /// The newest frame of each, or which one gives none.
    pub(super) fn newest(&self) -> Result<Vec<Image>, (usize, CameraError)> {
        let cameras = self.slots.iter().zip(&self.names).enumerate();
        cameras
            .map(|(index, (slot, name))| {
                let newest = slot.lock().unwrap_or_else(PoisonError::into_inner);
                let newest = newest.clone().unwrap_or_else(|| {
                    Err(CameraError::NoFrame {
                        name: name.clone(),
                        reason: "it has not given one yet".to_owned(),
                    })
                });
                newest.map_err(|error| (index, error))
            })
            .collect()
    }
}

/// The running threads. Dropping it ends them.
pub struct CameraThreads {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl CameraThreads {
    /// Starts a thread per camera.
    pub(super) fn start(eyes: Vec<Eye>) -> std::io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for mut eye in eyes {
            let over = Arc::clone(&ending);
            let name = format!("camera-{}", eye.camera.spec().name);
            let period_ns = match eye.camera.waits() {
                true => WAITING_PERIOD_NS,
                false => PERIOD_NS,
            };
            let work = move || {
                let mut due_ns = Monotonic.now_ns();
                while !over.load(Ordering::Relaxed) {
                    eye.look();
                    due_ns = (due_ns + period_ns).max(Monotonic.now_ns());
                    Monotonic.sleep_until_ns(due_ns);
                }
            };
            threads.push(std::thread::Builder::new().name(name).spawn(work)?);
        }
        Ok(Self { ending, threads })
    }
}

impl Drop for CameraThreads {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a camera's thread ended by a panic");
            }
        }
    }
}
