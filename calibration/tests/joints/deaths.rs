//! A bus that dies at any moment leaves no calibration, and says what it left.

use hilt_calibration::joints::{Plan, check, lerobot, write};
use hilt_drivers::bus::{Kept, Maintenance, Wire, WireError};
use hilt_sim::ArmKind;

use super::{
    arm::{Bench, DATE},
    calibrated,
};

/// After so many frames nothing gets through any more, or the adapter is gone.
struct Dying<W> {
    inner: W,
    left: usize,
    unplugged: bool,
}

impl<W: Wire> Wire for Dying<W> {
    fn now_ns(&self) -> u64 {
        self.inner.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match self.left {
            0 if self.unplugged => Err(WireError::Unplugged),
            0 => Ok(()),
            _ => {
                self.left -= 1;
                self.inner.write(bytes)
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        self.inner.read(buffer, until_ns)
    }

    fn drain(&mut self) -> Result<(), WireError> {
        self.inner.drain()
    }
}

fn kept(bench: &Bench) -> Vec<Kept> {
    let mut servos = bench.servos();
    let ids: Vec<_> = bench.config.ids().collect();
    ids.iter().map(|id| servos.kept(*id).unwrap()).collect()
}

/// Another arm, built the same, whose servos keep the same.
fn as_it_is(other: &Bench) -> Bench {
    let bench = Bench::of(other.kind, other.built.clone());
    let table = bench.family().table();
    for id in bench.config.ids() {
        for register in [table.mode, table.offset, table.lowest, table.highest] {
            let value = other.bus.look(|bus| bus.peek(id, register).unwrap());
            bench.bus.look(|bus| bus.poke(id, register, value));
        }
    }
    bench
}

/// The calibration of another arm of the same shape, as if this one's joints had been mounted so.
fn other_plan(bench: &Bench, seed: u64) -> Plan {
    let mut other = Bench::new(bench.kind, seed);
    let of = calibrated(&mut other);
    lerobot::import(&lerobot::export(&of), &bench.subject(None)).unwrap()
}

#[test]
fn at_every_single_frame() {
    for (kind, seed) in [(ArmKind::So101, 11), (ArmKind::Koch, 12)] {
        for unplugged in [true, false] {
            let mut old = Bench::new(kind, seed);
            let of = calibrated(&mut old);
            let plan = other_plan(&old, seed + 100);
            let mut frames = 0;
            loop {
                // Each begins with the servos as the old calibration left them.
                let bench = as_it_is(&old);
                assert_eq!(check(&mut bench.servos(), &of), Ok(()));
                let before = kept(&bench);
                let wire = Dying {
                    inner: bench.bus.wire(),
                    left: frames,
                    unplugged,
                };
                let mut servos = Maintenance::new(wire, bench.family(), 1_000_000);
                let done = write(&mut servos, &plan, 0, DATE);
                let after = kept(&bench);
                match done {
                    Ok(new) => {
                        assert_eq!(check(&mut bench.servos(), &new), Ok(()));
                        assert!(check(&mut bench.servos(), &of).is_err());
                        break;
                    }
                    Err(error) => {
                        let words = error.to_string();
                        let Some(written) = error.written else {
                            assert_eq!(after, before, "{words}");
                            assert!(words.contains("Nothing was written"), "{words}");
                            assert_eq!(check(&mut bench.servos(), &of), Ok(()));
                            frames += 1;
                            continue;
                        };
                        assert!(words.contains(&format!("servo {}", error.id)), "{words}");
                        assert!(words.contains("calibrate again"), "{words}");
                        for (place, joint) in plan.joints.iter().enumerate() {
                            let says = written.contains(&joint.name);
                            if joint.name == error.name {
                                assert!(!says, "{words}");
                            } else if says {
                                assert!(after[place].holds(&joint.keep), "{place}: {words}");
                            } else {
                                // Behind the one that failed.
                                assert_eq!(after[place], before[place], "{words}");
                            }
                        }
                        // It is alive again, and the same plan is written to its end.
                        let new = write(&mut bench.servos(), &plan, 0, DATE).unwrap();
                        assert_eq!(check(&mut bench.servos(), &new), Ok(()));
                    }
                }
                frames += 1;
            }
            assert!(frames > 60, "{frames}");
        }
    }
}

#[test]
fn a_servo_that_holds_is_not_written_to() {
    let mut bench = Bench::new(ArmKind::So101, 14);
    let of = calibrated(&mut bench);
    let plan = other_plan(&bench, 15);
    let before = kept(&bench);
    let torque = bench.family().table().torque;
    bench.bus.look(|bus| bus.poke(4, torque, 1));
    let error = write(&mut bench.servos(), &plan, 0, DATE)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("servo 4 (wrist_flex): its torque is on"),
        "{error}"
    );
    assert_eq!(kept(&bench), before);
    assert_eq!(check(&mut bench.servos(), &of), Ok(()));
}

/// LeRobot's own robot: what its servos keep already is not written, and they may hold meanwhile.
#[test]
fn an_import_of_what_the_servos_keep_writes_nothing() {
    for (kind, seed) in [(ArmKind::So101, 16), (ArmKind::Koch, 17)] {
        let bench = Bench::new(kind, seed);
        let subject = bench.subject(None);
        let plan = other_plan(&bench, seed + 1);
        let of = write(&mut bench.servos(), &plan, 0, DATE).unwrap();
        let text = lerobot::export(&of);
        let torque = bench.family().table().torque;
        (1..=6).for_each(|id| bench.bus.look(|bus| bus.poke(id, torque, 1)));
        let before = kept(&bench);
        let plan = lerobot::import(&text, &subject).unwrap();
        let again = write(&mut bench.servos(), &plan, 0, DATE).unwrap();
        assert_eq!(lerobot::export(&again), text);
        assert_eq!(kept(&bench), before);
    }
}
