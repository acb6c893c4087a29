//! An emulated bus as a wire, in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hilt_realtime::Clock;

use super::EmulatedBus;
use crate::bus::{Wire, WireError};

/// A look into a bus while it runs; clones look into the same.
///
/// Behind it is a lock, also on the host's side of a [`MemoryWire`]. A real line has none; here it
/// is free but while somebody looks, and taking a free one neither allocates nor calls the system.
#[derive(Clone)]
pub struct BusHandle {
    bus: Arc<Mutex<EmulatedBus>>,
    clock: Arc<dyn Clock + Send + Sync>,
}

impl std::fmt::Debug for BusHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BusHandle").field(&self.bus).finish()
    }
}

impl BusHandle {
    pub(super) fn new(bus: EmulatedBus, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        let bus = Arc::new(Mutex::new(bus));
        Self { bus, clock }
    }

    /// Shows the bus as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&mut EmulatedBus) -> T) -> T {
        let mut bus = self.lock();
        bus.advance(self.now_ns());
        look(&mut bus)
    }

    /// A line to it. A host reads what was said to it alone, so there is one at a time.
    pub fn wire(&self) -> MemoryWire {
        MemoryWire {
            handle: self.clone(),
        }
    }

    /// The time on the bus's clock, nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, EmulatedBus> {
        // Whoever panicked while looking has left a whole bus.
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line with an emulated bus at its other end. Waiting for bytes is sleeping on the clock: on a
/// [`Fake`](hilt_realtime::Fake) one the wire's time passes and takes none. Neither allocates.
#[derive(Debug)]
pub struct MemoryWire {
    handle: BusHandle,
}

impl MemoryWire {
    /// A line to `bus`, whose time is `clock`'s.
    pub fn new(bus: EmulatedBus, clock: impl Clock + Send + Sync + 'static) -> Self {
        let handle = BusHandle::new(bus, Arc::new(clock));
        Self { handle }
    }

    /// A look into the bus.
    pub fn handle(&self) -> BusHandle {
        self.handle.clone()
    }
}

impl Wire for MemoryWire {
    fn now_ns(&self) -> u64 {
        self.handle.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let now_ns = self.now_ns();
        self.handle.lock().hear(now_ns, bytes);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        loop {
            let now_ns = self.now_ns();
            let mut bus = self.handle.lock();
            let count = bus.say(now_ns, buffer);
            if count > 0 || now_ns >= until_ns || buffer.is_empty() {
                return Ok(count);
            }
            // What is said in one go comes in one go, as from an adapter that gathers bytes.
            let wake_ns = match bus.under_way_ns() {
                Some((_, last_ns)) => last_ns.min(until_ns),
                None => until_ns,
            };
            drop(bus);
            self.handle.clock.sleep_until_ns(wake_ns);
        }
    }

    fn drain(&mut self) -> Result<(), WireError> {
        let now_ns = self.now_ns();
        let mut bus = self.handle.lock();
        while bus.say(now_ns, &mut [0; 64]) > 0 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hilt_realtime::Fake;

    use super::*;
    use crate::{
        bus::{
            feetech::Request,
            sts3215::{GOAL_POSITION, TORQUE_ENABLE},
        },
        emulated::{BYTE_NS_1M_BAUD, ServoSetup},
    };

    fn wire(clock: &Fake) -> MemoryWire {
        let servo = ServoSetup {
            id: 1,
            counts: 2048.0,
            rest_counts: 2048.0,
        };
        MemoryWire::new(EmulatedBus::new(&[servo], BYTE_NS_1M_BAUD), clock.clone())
    }

    fn ping(wire: &mut MemoryWire) {
        let mut bytes = [0; 8];
        let size = Request::Ping { id: 1 }.encode(&mut bytes).unwrap();
        wire.write(&bytes[..size]).unwrap();
    }

    #[test]
    fn a_reply_takes_the_wires_time() {
        let clock = Fake::at(0);
        let mut wire = wire(&clock);
        ping(&mut wire);
        assert_eq!(wire.read(&mut [0; 64], 1_000_000), Ok(6));
        assert_eq!(clock.now_ns(), 12 * BYTE_NS_1M_BAUD + 500_000);
    }

    #[test]
    fn silence_lasts_until_the_time_is_out() {
        let clock = Fake::at(50);
        let mut wire = wire(&clock);
        assert_eq!(wire.read(&mut [0; 64], 7_000), Ok(0));
        assert_eq!(clock.now_ns(), 7_000);
        assert_eq!(wire.read(&mut [0; 64], 100), Ok(0));
        assert_eq!(clock.now_ns(), 7_000);
    }

    #[test]
    fn what_is_drained_does_not_come_and_what_is_under_way_does() {
        let clock = Fake::at(0);
        let mut wire = wire(&clock);
        ping(&mut wire);
        clock.set_ns(500_000 + 10 * BYTE_NS_1M_BAUD);
        wire.drain().unwrap();
        assert_eq!(wire.read(&mut [0; 64], 1_000_000), Ok(2));
    }

    #[test]
    fn a_look_shows_the_joints_as_they_are_now() {
        let clock = Fake::at(0);
        let mut wire = wire(&clock);
        let (torque_on, goal) = ([1], 2248u16.to_le_bytes());
        for (address, data) in [
            (TORQUE_ENABLE.address, &torque_on[..]),
            (GOAL_POSITION.address, &goal),
        ] {
            let mut bytes = [0; 16];
            let write = Request::Write {
                id: 1,
                address,
                data,
            };
            let size = write.encode(&mut bytes).unwrap();
            wire.write(&bytes[..size]).unwrap();
        }
        let handle = wire.handle();
        let counts = move || handle.look(|bus| bus.servo(1).map(|servo| servo.counts));
        let early = counts().unwrap();
        assert!(early < 2060.0, "{early}");
        clock.advance_ns(1_000_000_000);
        let elsewhere = std::thread::spawn(counts).join().unwrap();
        assert_eq!(elsewhere, Some(2248.0));
    }
}
