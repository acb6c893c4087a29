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

/// The running threads.
pub(super) struct Cameras {
    slots: Vec<Slot>,
    names: Vec<String>,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A camera is asked so often, at most; one that has a pace of its own makes its thread wait.
const PERIOD_NS: u64 = 1_000_000_000 / 30;

impl Cameras {
    /// Starts a thread per camera, which tells `times` of every frame.
    pub(super) fn start(
        cameras: Vec<Box<dyn Camera + Send>>,
        times: &Arc<FrameTimes>,
    ) -> std::io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let (mut slots, mut names, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for (index, mut camera) in cameras.into_iter().enumerate() {
            let slot = Slot::default();
            let name = camera.spec().name.clone();
            let (own, over, times) = (Arc::clone(&slot), Arc::clone(&ending), Arc::clone(times));
            let work = move || {
                let mut due_ns = Monotonic.now_ns();
                while !over.load(Ordering::Relaxed) {
                    let frame = camera.newest();
                    if let Ok(image) = &frame {
                        times.set(index, image.captured_ns);
                    }
                    *own.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
                    due_ns = (due_ns + PERIOD_NS).max(Monotonic.now_ns());
                    Monotonic.sleep_until_ns(due_ns);
                }
            };
            let thread = std::thread::Builder::new().name(format!("camera-{name}"));
            threads.push(thread.spawn(work)?);
            slots.push(slot);
            names.push(name);
        }
        Ok(Self {
            slots,
            names,
            ending,
            threads,
        })
    }

    /// The newest frame of each.
    pub(super) fn newest(&self) -> Result<Vec<Image>, CameraError> {
        let cameras = self.slots.iter().zip(&self.names);
        cameras
            .map(|(slot, name)| {
                let newest = slot.lock().unwrap_or_else(PoisonError::into_inner);
                newest.clone().unwrap_or_else(|| {
                    Err(CameraError::NoFrame {
                        name: name.clone(),
                        reason: "it has not given one yet".to_owned(),
                    })
                })
            })
            .collect()
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a camera's thread ended by a panic");
            }
        }
    }
}
