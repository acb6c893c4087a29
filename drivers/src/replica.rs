//! An arm without a device, which makes the bytes that the arm made of whose run it is a replica.

use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector};

use crate::{
    Arm, ArmError, ArmState, Encoding,
    arm::check_target,
    bus::{Commands, Goals, ServoArmConfigError},
    remote::{RemoteCommand, SENT_BYTES},
};

/// What makes the bytes: the same code as in the arm itself.
enum Maker {
    /// None are made, or those of a remote arm.
    Plain {
        chain: Chain,
        remote: bool,
        started: bool,
        sent: Vec<u8>,
    },
    /// An arm of servos, its wire apart.
    Servos(Box<Commands>),
}

/// The replica. What the device said, to a read and to a write, is told before.
pub struct Replica {
    maker: Maker,
    report: Result<ArmState, ArmError>,
    failed: Option<ArmError>,
    found: Goals,
}

impl Replica {
    /// Of an arm that was started and held by `will` then ([`Arm::will`]).
    pub fn new(
        chain: Chain,
        encoding: &Encoding,
        will: &[u8],
    ) -> Result<Self, ServoArmConfigError> {
        let will = Goals::from_frame(will);
        let maker = match encoding {
            Encoding::None | Encoding::Remote => Maker::Plain {
                chain,
                remote: *encoding == Encoding::Remote,
                started: true,
                sent: Vec::new(),
            },
            Encoding::Servos(config) => {
                let mut commands = Commands::new(chain, config.clone())?;
                commands.start(will);
                Maker::Servos(Box::new(commands))
            }
        };
        Ok(Self {
            maker,
            report: Err(ArmError::Device),
            failed: None,
            found: will,
        })
    }

    /// What the device says until this is called again: `report` to a read; `failed` to whatever is
    /// written, unless the command is refused before; and if it is started, the arm is found held by
    /// `will`.
    pub fn tell(
        &mut self,
        report: Result<ArmState, ArmError>,
        failed: Option<ArmError>,
        will: &[u8],
    ) {
        self.report = report;
        self.failed = failed.filter(|error| error.is_of_device());
        self.found = Goals::from_frame(will);
    }
}

impl Arm for Replica {
    fn chain(&self) -> &Chain {
        match &self.maker {
            Maker::Plain { chain, .. } => chain,
            Maker::Servos(commands) => commands.chain(),
        }
    }

    fn read_state(&mut self, _now_ns: u64, _until_ns: u64) -> Result<ArmState, ArmError> {
        match &mut self.maker {
            Maker::Plain { sent, .. } => sent.clear(),
            Maker::Servos(commands) => commands.forget_sent(),
        }
        self.report
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        let failed = self.failed.map_or(Ok(()), Err);
        match &mut self.maker {
            Maker::Plain { started: false, .. } => Err(ArmError::Stopped),
            Maker::Plain {
                chain,
                remote,
                sent,
                ..
            } => {
                check_target(chain, joints)?;
                failed?;
                if *remote {
                    let mut bytes = [0; SENT_BYTES];
                    let len = RemoteCommand::Target(*joints, gripper).encode(&mut bytes);
                    *sent = bytes[..len].to_vec();
                }
                Ok(())
            }
            Maker::Servos(commands) => {
                let goals = commands.target(joints, gripper)?;
                failed?;
                commands.wrote(goals);
                Ok(())
            }
        }
    }

    fn start(&mut self) -> Result<(), ArmError> {
        let failed = self.failed.map_or(Ok(()), Err);
        match &mut self.maker {
            Maker::Plain { started, .. } => {
                failed?;
                *started = true;
            }
            Maker::Servos(commands) if commands.is_started() => {}
            Maker::Servos(commands) => {
                failed?;
                commands.start(self.found);
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        let failed = self.failed.map_or(Ok(()), Err);
        match &mut self.maker {
            Maker::Plain { started, sent, .. } => {
                *started = false;
                // Told to hold, a remote arm sends nothing that is logged.
                sent.clear();
                failed
            }
            Maker::Servos(commands) => {
                let Some(goals) = commands.stop() else {
                    return Ok(());
                };
                failed?;
                commands.wrote(goals);
                Ok(())
            }
        }
    }

    fn sent(&self) -> &[u8] {
        match &self.maker {
            Maker::Plain { sent, .. } => sent,
            Maker::Servos(commands) => commands.sent(),
        }
    }

    fn will(&self) -> &[u8] {
        match &self.maker {
            Maker::Plain { .. } => &[],
            Maker::Servos(commands) => commands.will(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hilt_kinematics::{Joint, JointKind};
    use hilt_realtime::Fake;
    use nalgebra::{Isometry3, Vector3};

    use super::*;
    use crate::{
        bus::{Direction, Family, GripperServo, JointServo, ServoArm, ServoArmConfig},
        emulated::{BYTE_NS_1M_BAUD, EmulatedBus, MemoryWire, ServoSetup},
        faults::{FaultKind, FaultPlan, FaultSpec, FaultyWire},
    };

    const SECOND_NS: u64 = 1_000_000_000;

    fn chain() -> Chain {
        let joint = Joint {
            parent_from_joint: Isometry3::translation(0.0, 0.0, 0.2),
            axis: Vector3::y_axis(),
            kind: JointKind::Revolute,
            lower: -1.0,
            upper: 1.0,
        };
        Chain::new(vec![joint; 2], Isometry3::identity()).unwrap()
    }

    /// Servos on a bus that is pulled out from 1 s to 2 s.
    fn arm(family: Family, clock: &Fake) -> ServoArm<FaultyWire<MemoryWire>> {
        let servo = |id| ServoSetup {
            id,
            counts: 2000.0,
            rest_counts: 1500.0,
        };
        let bus = EmulatedBus::of(family, &[1, 2, 3].map(servo), BYTE_NS_1M_BAUD);
        let pulled = FaultSpec {
            kind: FaultKind::BusUnplugged,
            from_s: 1.0,
            for_s: 1.0,
            index: 0,
            servo: None,
            magnitude: None,
        };
        let plan = FaultPlan {
            seed: 0,
            faults: vec![pulled],
        };
        let wire = FaultyWire::new(MemoryWire::new(bus, clock.clone()), plan, 0, 0);
        let joint = |id| JointServo {
            id,
            zero_counts: 2048,
            direction: Direction::Against,
        };
        let config = ServoArmConfig {
            family,
            joints: vec![joint(1), joint(2)],
            gripper: GripperServo {
                id: 3,
                open_counts: 3000,
                closed_counts: 1900,
                open_width_m: 0.1,
                closed_width_m: 0.0,
            },
            baud: 1_000_000,
            max_speed_rad_s: 10.0,
        };
        ServoArm::new(wire, chain(), config).unwrap()
    }

    #[test]
    fn a_replica_of_an_arm_of_servos_makes_its_bytes_also_when_the_device_fails() {
        makes_its_bytes(Family::Sts3215, 8 + 3 * 3);
        makes_its_bytes(Family::DynamixelX, 14 + 3 * 5);
    }

    /// `frame`: bytes of a write.
    fn makes_its_bytes(family: Family, frame: usize) {
        let clock = Fake::at(1_000_000);
        let mut arm = arm(family, &clock);
        arm.start().unwrap();
        let mut replica = Replica::new(chain(), &arm.encoding(), arm.will()).unwrap();
        let mut both = |at_ns: u64, act: &dyn Fn(&mut dyn Arm) -> Result<(), ArmError>| {
            clock.set_ns(at_ns);
            let report = arm.read_state(at_ns, at_ns + 5_000_000);
            let result = act(&mut arm);
            replica.tell(report, result.err(), arm.will());
            assert_eq!(replica.read_state(0, 0), report);
            assert_eq!(act(&mut replica), result);
            assert_eq!(replica.sent(), arm.sent());
            assert_eq!(replica.will(), arm.will());
            (result, arm.sent().len())
        };
        let to = |a: f64, b: f64| {
            let target = JointVector::from_slice(&[a, b]).unwrap();
            move |arm: &mut dyn Arm| arm.write(&target, GripperCommand::Closed)
        };
        assert_eq!(both(10_000_000, &|arm| arm.stop()), (Ok(()), frame));
        assert_eq!(both(20_000_000, &to(0.1, 0.2)).0, Err(ArmError::Stopped));
        assert_eq!(both(30_000_000, &|arm| arm.start()), (Ok(()), 0));
        assert_eq!(both(200_000_000, &to(0.1, 0.2)), (Ok(()), frame));
        assert_eq!(
            both(300_000_000, &to(0.1, 2.0)),
            (Err(ArmError::OutOfLimits(1)), 0)
        );
        let unplugged = (Err(ArmError::Unplugged), 0);
        assert_eq!(both(SECOND_NS, &to(0.3, 0.2)), unplugged);
        assert_eq!(both(SECOND_NS + 5_000_000, &|arm| arm.stop()), unplugged);
        assert_eq!(both(2 * SECOND_NS, &|arm| arm.stop()), (Ok(()), frame));
        assert_eq!(both(3 * SECOND_NS, &|arm| arm.start()), (Ok(()), 0));
    }

    #[test]
    fn a_replica_of_a_remote_arm_makes_what_it_logs() {
        let mut replica = Replica::new(chain(), &Encoding::Remote, &[]).unwrap();
        let target = JointVector::from_slice(&[0.5, -0.0]).unwrap();
        replica.write(&target, GripperCommand::Closed).unwrap();
        let mut expected = [0.5f64.to_le_bytes(), (-0.0f64).to_le_bytes()].concat();
        expected.push(1);
        assert_eq!(replica.sent(), expected);
        replica.stop().unwrap();
        assert_eq!(replica.sent(), [0u8; 0]);
        assert_eq!(
            replica.write(&target, GripperCommand::Open),
            Err(ArmError::Stopped)
        );
        replica.tell(Err(ArmError::Device), Some(ArmError::Stopped), &[]);
        assert_eq!(replica.start(), Ok(()), "no word of the device's");
    }
}
