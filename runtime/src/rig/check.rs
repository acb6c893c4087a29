//! What a rig's types cannot say: values that have the right type and cannot be.

use hilt_drivers::emulated::lift_config;
use hilt_sim::SimError;

use super::{ClockKind, Device, Problem, Rig};

impl Rig {
    pub(super) fn check(&self) -> Result<(), Problem> {
        self.check_rates()?;
        self.check_limits()?;
        self.check_realtime()?;
        self.check_episodes()?;
        self.check_device()?;
        self.check_real()?;
        self.check_faults()?;
        if let Some(model) = &self.model {
            for name in ["encoder.onnx", "policy.onnx"] {
                if !model.join(name).is_file() {
                    let missing = format!(
                        "has no {name} ({}); name a folder that hilt-learner has exported",
                        model.join(name).display()
                    );
                    return Err(("model".into(), missing));
                }
            }
        }
        Ok(())
    }

    fn check_rates(&self) -> Result<(), Problem> {
        within("policy_hz", f64::from(self.policy_hz), 1.0, 1000.0)?;
        let fits =
            self.control_hz >= self.policy_hz && self.control_hz.is_multiple_of(self.policy_hz);
        if !fits || self.control_hz > 10_000 {
            let problem = format!(
                "is {}; it must be a multiple of policy_hz ({}), at most 10000",
                self.control_hz, self.policy_hz
            );
            return Err(("control_hz".into(), problem));
        }
        if self.providers.is_empty() {
            return Err(("providers".into(), "is empty; name at least \"cpu\"".into()));
        }
        within(
            "inference_threads",
            self.inference_threads as f64,
            1.0,
            256.0,
        )
    }

    fn check_limits(&self) -> Result<(), Problem> {
        let l = &self.limits;
        within("limits.step_m", l.step_m, 1e-4, 0.2)?;
        within("limits.step_rad", l.step_rad, 1e-3, 1.0)?;
        within("limits.leash_m", l.leash_m, l.step_m, 1.0)?;
        within("limits.leash_rad", l.leash_rad, l.step_rad, 3.0)?;
        within(
            "limits.joint_velocity_rad_s",
            l.joint_velocity_rad_s,
            0.01,
            20.0,
        )?;
        if let Some(hardest) = l.joint_acceleration_rad_s2 {
            within("limits.joint_acceleration_rad_s2", hardest, 0.1, 1000.0)?;
        }
        within("limits.following_rad", l.following_rad, 0.01, 3.0)?;
        for i in 0..3 {
            let (low, high) = (l.workspace_min_m[i], l.workspace_max_m[i]);
            within("limits.workspace_min_m", low, -5.0, 5.0)?;
            within("limits.workspace_max_m", high, -5.0, 5.0)?;
            if low >= high {
                let axis = ["x", "y", "z"][i];
                let problem = format!("is {high} on {axis}, not above workspace_min_m ({low})");
                return Err(("limits.workspace_max_m".into(), problem));
            }
        }
        Ok(())
    }

    fn check_realtime(&self) -> Result<(), Problem> {
        let ages = &self.ages;
        let tick_ms = 1e3 / f64::from(self.control_hz);
        let period_ms = 1e3 / f64::from(self.policy_hz);
        within("ages.state_ms", ages.state_ms, 2.0 * tick_ms, 1e4)?;
        within("ages.frame_ms", ages.frame_ms, 1.0, 1e4)?;
        within("ages.astray_ms", ages.astray_ms, tick_ms, 1e4)?;
        within("ages.loop_ms", ages.loop_ms, 2.0 * tick_ms, 1e4)?;
        within("ages.intent_ms", ages.intent_ms, 1.0, 1e4)?;
        within("ages.jump_ms", ages.jump_ms, 10.0 * tick_ms, 1e5)?;
        if let Some(policy_ms) = ages.policy_ms {
            within("ages.policy_ms", policy_ms, period_ms, 1e5)?;
        }
        if let Some(command_ms) = ages.command_ms {
            within("ages.command_ms", command_ms, tick_ms, 1e4)?;
        }
        within(
            "realtime.priority",
            f64::from(self.realtime.priority),
            0.0,
            99.0,
        )
    }

    fn check_episodes(&self) -> Result<(), Problem> {
        let e = &self.episode;
        within("episode.max_steps", f64::from(e.max_steps), 1.0, 100_000.0)?;
        within(
            "episode.gripper_penalty",
            as_written(e.gripper_penalty),
            -1.0,
            0.0,
        )?;
        within(
            "episode.demonstration_range_m",
            e.demonstration_range_m,
            0.0,
            0.5,
        )?;
        within("episode.range_m", e.range_m, 0.0, 0.5)?;
        within(
            "classifier.threshold",
            as_written(self.classifier.threshold),
            0.0,
            1.0,
        )?;
        if let Some(least) = self.classifier.tool_z_min_m {
            within("classifier.tool_z_min_m", least, -5.0, 5.0)?;
        }
        let o = &self.operator;
        within("operator.speed", o.speed, 0.01, 1.0)?;
        within("operator.noise_std", o.noise_std, 0.0, 1.0)?;
        within(
            "operator.reaction_steps",
            o.reaction_steps as f64,
            0.0,
            100.0,
        )?;
        within(
            "operator.training_steps",
            o.training_steps as f64,
            1.0,
            1e12,
        )?;
        within(
            "operator.takeover.fade_fraction",
            o.takeover.fade_fraction,
            0.0,
            1.0,
        )?;
        within(
            "operator.takeover.least_probability",
            o.takeover.least_probability,
            0.0,
            1.0,
        )
    }

    fn check_faults(&self) -> Result<(), Problem> {
        let Some(plan) = &self.faults else {
            return Ok(());
        };
        if self.clock == ClockKind::Simulated {
            let problem = "need real time; use --set clock=monotonic";
            return Err(("faults".into(), problem.into()));
        }
        let spec = self.spec();
        plan.check(spec.mode.arms(), spec.cameras.len())
            .map_err(|error| {
                (
                    format!("faults.{}", error.field),
                    format!("is {}", error.problem),
                )
            })?;
        match plan
            .faults
            .iter()
            .position(|fault| fault.kind.strikes_a_wire())
        {
            Some(i) if self.device == Device::LiftSim => {
                let problem = "strikes the wire of an arm; a simulated arm has none";
                Err((format!("faults.faults[{i}].kind"), problem.into()))
            }
            _ => Ok(()),
        }
    }

    fn check_device(&self) -> Result<(), Problem> {
        match (self.device, &self.scene) {
            (Device::LiftSim, None) => {
                return Err(("device".into(), "\"lift-sim\" needs a table [scene]".into()));
            }
            (Device::Fake, Some(_)) => {
                let problem = "goes with device = \"lift-sim\" or \"emulated\"";
                return Err(("scene".into(), problem.into()));
            }
            (Device::LiftSim | Device::Emulated, Some(scene)) => {
                if self.device == Device::Emulated && lift_config(scene.arm).is_none() {
                    let problem = "is an arm without servos; for device = \"emulated\" use \"so101\" or \"koch\"";
                    return Err(("scene.arm".into(), problem.into()));
                }
                if self.mode.arms() != 1 {
                    let problem = format!("is {}; the lift scene has one arm", self.mode);
                    return Err(("mode".into(), problem));
                }
                if !self.cameras.is_empty() {
                    let problem = "belongs to rigs without a scene; write [[scene.cameras]]";
                    return Err(("cameras".into(), problem.into()));
                }
                scene.validate().map_err(|error| match error {
                    SimError::Config { field, problem } => (format!("scene.{field}"), problem),
                    other => ("scene".into(), format!("cannot be used: {other}")),
                })?;
            }
            (Device::Fake | Device::Emulated, None) | (Device::Real, _) => {}
        }
        match (self.device, self.clock) {
            (Device::Fake, ClockKind::Monotonic) => {
                let problem = "is \"monotonic\"; fake arms have no real time, emulated ones do";
                return Err(("clock".into(), problem.into()));
            }
            (Device::Emulated, ClockKind::Simulated) => {
                let problem = "is \"simulated\"; a serial bus has no lockstep, use \"monotonic\"";
                return Err(("clock".into(), problem.into()));
            }
            _ => {}
        }
        let ports = self.ports.len();
        let may_have = self.device == Device::Emulated && self.scene.is_none();
        if ports > 0 && !(may_have && ports == self.mode.arms()) {
            let problem = format!(
                "names {ports} serial devices; a rig of emulated arms without a scene may name one per \
                 arm ({}), others none",
                self.mode.arms()
            );
            return Err(("ports".into(), problem));
        }
        self.spec().validate().map_err(|error| {
            use hilt_protocol::SpecError as E;
            let cameras = if self.scene.is_some() {
                "scene.cameras"
            } else {
                "cameras"
            };
            let field = match error {
                E::NoAxis | E::AxisTwice(_) => "controlled_axes",
                E::NoCamera | E::Cameras(_) | E::CameraTwice(_) | E::CameraSize(..) => cameras,
                E::Rate(_) => "policy_hz",
            };
            (field.to_owned(), format!("cannot be used: {error}"))
        })
    }
}

/// 0.1 and not 0.10000000149011612.
fn as_written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn within(field: &str, value: f64, low: f64, high: f64) -> Result<(), Problem> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err((
        field.to_owned(),
        format!("is {value}; it must be {low} to {high}"),
    ))
}
