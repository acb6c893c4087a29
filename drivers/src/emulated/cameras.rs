//! A camera for arms that are not there.

use hilt_protocol::{CameraSpec, Image};
use hilt_realtime::{Clock, Monotonic};

use super::BusHandle;
use crate::{Camera, CameraError, bars::draw, bus::sts3215::COUNTS_PER_TURN};

/// Draws the joints of emulated buses as bars, one below the other in the order of their servos.
#[derive(Clone, Debug)]
pub struct EmulatedCamera {
    buses: Vec<BusHandle>,
    spec: CameraSpec,
}

impl EmulatedCamera {
    /// A camera of that name and size that sees these buses. They go by the same clock, and frames
    /// are stamped by it; without any it sees an empty table on the monotonic clock.
    pub fn new(buses: Vec<BusHandle>, spec: CameraSpec) -> Self {
        Self { buses, spec }
    }
}

impl Camera for EmulatedCamera {
    fn spec(&self) -> &CameraSpec {
        &self.spec
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        let captured_ns = self
            .buses
            .first()
            .map_or_else(|| Monotonic.now_ns(), BusHandle::now_ns);
        let mut turns = Vec::new();
        for bus in &self.buses {
            let whole = f64::from(COUNTS_PER_TURN);
            bus.look(|bus| turns.extend(bus.servos().map(|servo| servo.counts / whole)));
        }
        Ok(draw(&self.spec, &turns, captured_ns))
    }
}
