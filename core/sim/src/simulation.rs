//! Physics of one scene, and its pictures, on the thread that made it.

use hilt_kinematics::{Chain, Ik, IkOptions, Joint, JointKind};
use hilt_protocol::JointVector;
use mujoco_rs::prelude::*;
use nalgebra::{Isometry3, Quaternion, Translation3, Unit, UnitQuaternion, Vector3};

use crate::{
    Motion, Mount, Servos, SimError, Start,
    arm::{Model, Task},
    painter::{Moment, Painter},
    past::Past,
    scene::{SceneCamera, SceneConfig},
};

/// What a real arm would report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArmState {
    /// When, on the simulation's clock, nanoseconds.
    pub time_ns: u64,
    /// Joint positions, radians, base to tip.
    pub q: JointVector,
    /// Joint velocities, rad/s.
    pub qd: JointVector,
    /// Gap between the fingers, metres.
    pub gripper_width_m: f64,
}

/// What only a simulator knows: for the operator, the reset and the judge, never for the policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// The cube's centre, metres in the arm's base frame.
    pub cube_position_m: [f64; 3],
    /// How far the cube is above its place on the table, metres.
    pub cube_height_m: f64,
    /// The cube's turn about z, radians, in ±π.
    pub cube_yaw_rad: f64,
    /// The tool, metres in the arm's base frame.
    pub tool_position_m: [f64; 3],
    /// Gap between the fingers, metres.
    pub gripper_width_m: f64,
    /// Whether the gripper is commanded closed.
    pub gripper_closed_command: bool,
    /// Success: the cube is more than [`Task::lifted_m`] above its place on the table and the gripper
    /// is commanded closed.
    pub lifted: bool,
}

/// The pose with the tool at a point of the base frame, pointing down, the fingers closing along y.
pub fn base_from_tool_down(position_m: [f64; 3]) -> Isometry3<f64> {
    Isometry3::from_parts(
        Translation3::from(Vector3::from(position_m)),
        UnitQuaternion::from_axis_angle(&Vector3::x_axis(), std::f64::consts::PI),
    )
}

/// Where the scene's elements are in MuJoCo's arrays.
struct Places {
    arm_q: Vec<usize>,
    arm_v: Vec<usize>,
    fingers_q: Vec<usize>,
    fingers_v: Vec<usize>,
    cube_q: usize,
    cube_v: usize,
    tool_site: usize,
}

/// One scene, running. It stays on the thread that made it, as its GL contexts must.
pub struct Simulation {
    data: MjData<Box<MjModel>>,
    /// `None` where the pictures are drawn elsewhere.
    painter: Option<Painter>,
    past: Past,
    /// Pictures that each camera has seen since the last reset.
    pictures: Vec<u64>,
    config: SceneConfig,
    task: Task,
    arm: Model,
    ik: Ik,
    places: Places,
    servos: Option<Coupled>,
    closed: bool,
    timestep_ns: u64,
    /// Physics has been stepped up to here.
    stepped_ns: u64,
    /// The sum of what [`Self::advance_ns`] was asked for.
    time_ns: u64,
}

impl Simulation {
    /// Builds the scene and its renderers, at [`Task::start`].
    ///
    /// # Errors
    /// [`SimError`] when the configuration is impossible, MuJoCo refuses the model, or rendering
    /// lacks a library.
    pub fn new(config: &SceneConfig) -> Result<Self, SimError> {
        let painter = Painter::new(config)?;
        let mut simulation = Self::unseen(config)?;
        simulation.painter = Some(painter);
        Ok(simulation)
    }

    /// The scene without renderers: what its cameras see is drawn elsewhere.
    pub(crate) fn unseen(config: &SceneConfig) -> Result<Self, SimError> {
        let model = MjModel::from_xml_string(&config.mjcf()?);
        let model = model.map_err(|e| SimError::Model(e.to_string()))?;
        let arm = config.arm.model();
        let places = Places::find(&model, &arm)?;
        let options = IkOptions {
            // Not in the control loop: as much as a cold start from the seed pose may need.
            iterations: 100,
            largest_move: f64::INFINITY,
            ..IkOptions::default()
        };
        let ik = Ik::new(chain_of(&model, arm.joints)?, options);
        let mut simulation = Self {
            data: MjData::new(Box::new(model)),
            painter: None,
            pictures: vec![0; config.cameras.len()],
            past: Past::new(config.cameras.iter().map(SceneCamera::latency_ns)),
            config: config.clone(),
            task: config.arm.task(),
            arm,
            ik,
            places,
            servos: None,
            closed: false,
            timestep_ns: (config.timestep_s * 1e9).round() as u64,
            stepped_ns: 0,
            time_ns: 0,
        };
        simulation.reset(&simulation.task.start())?;
        Ok(simulation)
    }

    /// The scene that runs.
    pub fn config(&self) -> &SceneConfig {
        &self.config
    }

    /// The arm's kinematic chain, read from the model; its base frame is the world's.
    pub fn chain(&self) -> &Chain {
        self.ik.chain()
    }

    /// Simulated time since this was made, nanoseconds. It goes on across resets.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// The task in this arm's reach.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Puts arm and cube at a start, at rest, gripper open. What follows depends on the start and
    /// the commands alone, not on what was before.
    ///
    /// # Errors
    /// [`SimError::Start`] when the start is not finite, the cube would be off the table, or the
    /// arm cannot reach its place.
    pub fn reset(&mut self, start: &Start) -> Result<(), SimError> {
        self.check_cube(start)?;
        let joints = self.home(start)?;
        self.data.reset();
        self.put_cube_at(start);
        let open = self.arm.fingers.position(false);
        let qpos = self.data.qpos_mut();
        for (&place, &value) in self.places.arm_q.iter().zip(joints.as_slice()) {
            qpos[place] = value;
        }
        for &place in &self.places.fingers_q {
            qpos[place] = open;
        }
        self.stepped_ns = self.time_ns;
        self.set_command(joints.as_slice(), false)?;
        self.data.forward();
        self.see_anew();
        self.pictures.fill(0);
        Ok(())
    }

    /// Puts the joints (radians, base to tip; clamped to their limits) there at once, at rest, and holds
    /// them there. The rest stays as it is.
    ///
    /// # Errors
    /// As [`Self::set_command`].
    pub fn put_arm(&mut self, joints: &[f64]) -> Result<(), SimError> {
        self.set_command(joints, self.closed)?;
        let mut joints = joints.to_vec();
        self.ik.chain().clamp(&mut joints);
        for (i, joint) in joints.into_iter().enumerate() {
            self.data.qpos_mut()[self.places.arm_q[i]] = joint;
            self.data.qvel_mut()[self.places.arm_v[i]] = 0.0;
        }
        self.data.forward();
        self.see_anew();
        Ok(())
    }

    /// Late cameras see it as it is now.
    fn see_anew(&mut self) {
        self.past.forget();
        self.past.keep(self.stepped_ns, self.data.qpos());
    }

    /// Puts the cube alone at a start, at rest; the arm stays where it is.
    ///
    /// # Errors
    /// [`SimError::Start`] when the start is not finite or the cube would be off the table.
    pub fn put_cube(&mut self, start: &Start) -> Result<(), SimError> {
        self.check_cube(start)?;
        self.put_cube_at(start);
        let velocity = self.places.cube_v;
        self.data.qvel_mut()[velocity..velocity + 6].fill(0.0);
        self.data.forward();
        Ok(())
    }

    fn check_cube(&self, start: &Start) -> Result<(), SimError> {
        let [x, y] = self.task.centre_xy_m;
        let [cube_x, cube_y] = start.cube_xy_m;
        if !((cube_x - x).abs() < 0.25 && (cube_y - y).abs() < 0.25) {
            return Err(SimError::Start(format!(
                "the cube at ({cube_x}, {cube_y}) m is more than 25 cm from the centre ({x}, {y})"
            )));
        }
        if !start.cube_yaw_rad.is_finite() {
            return Err(SimError::Start("the cube's yaw is not finite".into()));
        }
        Ok(())
    }

    fn put_cube_at(&mut self, start: &Start) {
        let [x, y] = start.cube_xy_m;
        let (sin, cos) = (start.cube_yaw_rad / 2.0).sin_cos();
        let cube = self.places.cube_q;
        let pose = [x, y, self.task.cube_half_m, cos, 0.0, 0.0, sin];
        self.data.qpos_mut()[cube..cube + 7].copy_from_slice(&pose);
    }

    /// Where the joints are at a start, radians.
    ///
    /// # Errors
    /// [`SimError::Start`] when the arm cannot reach it.
    pub fn home(&self, start: &Start) -> Result<JointVector, SimError> {
        let [x, y] = self.task.centre_xy_m;
        let [dx, dy, dz] = start.home_offset_m;
        let goal = base_from_tool_down([x + dx, y + dy, self.task.home_height_m + dz]);
        let seed = JointVector::from_slice(self.arm.seed_joints)
            .ok_or_else(|| SimError::Start("the arm has too many joints".into()))?;
        let solution = self.ik.solve(&goal, &seed);
        let reached = solution.position_error_m < 1e-3 && solution.rotation_error_rad < 1e-2;
        reached.then_some(solution.joints).ok_or_else(|| {
            SimError::Start(format!("the arm cannot reach home + ({dx}, {dy}, {dz}) m"))
        })
    }

    /// Sets the joints' targets (radians, base to tip; clamped to their limits) and opens or
    /// closes the gripper.
    ///
    /// # Errors
    /// [`SimError::Command`] when there is not one finite number per joint; nothing changes then.
    pub fn set_command(&mut self, joints: &[f64], gripper_closed: bool) -> Result<(), SimError> {
        let expected = self.chain().dof();
        if joints.len() != expected || joints.iter().any(|q| !q.is_finite()) {
            return Err(SimError::Command {
                expected,
                got: format!("{joints:?}"),
            });
        }
        self.closed = gripper_closed;
        // Actuators are in the order of the joints: arm, then fingers.
        let ctrl = self.data.ctrl_mut();
        let (arm, fingers) = ctrl.split_at_mut(expected);
        arm.copy_from_slice(joints);
        self.ik.chain().clamp(arm);
        fingers.fill(self.arm.fingers.position(gripper_closed));
        Ok(())
    }

    /// From now on these servos say where the joints are held, not [`Self::set_command`]. They are
    /// told where the joints are.
    ///
    /// # Errors
    /// [`SimError::Model`] when the arm has no servo for each joint and one for its gripper.
    pub fn couple(&mut self, servos: Box<dyn Servos>) -> Result<(), SimError> {
        let (actuators, joints) = (self.data.ctrl().len(), self.chain().dof());
        if actuators != joints + 1 {
            let problem =
                format!("its {actuators} motors are not those of {joints} joints and a jaw");
            return Err(SimError::Model(problem));
        }
        let mut coupled = Coupled {
            servos,
            goals: vec![None; actuators],
            motions: vec![Motion::default(); actuators],
        };
        coupled.tell(&self.data, &self.places);
        self.servos = Some(coupled);
        Ok(())
    }

    /// Advances simulated time. Physics takes whole steps; what is left over is stepped next time.
    pub fn advance_ns(&mut self, duration_ns: u64) {
        self.time_ns += duration_ns;
        while self.stepped_ns + self.timestep_ns <= self.time_ns {
            self.step();
            self.stepped_ns += self.timestep_ns;
            self.past.keep(self.stepped_ns, self.data.qpos());
        }
    }

    fn step(&mut self) {
        let Some(coupled) = &mut self.servos else {
            self.data.step();
            return;
        };
        coupled.servos.goals(&mut coupled.goals);
        // Each actuator is in the group of its own number.
        let mut without_torque = 0;
        for (i, (ctrl, goal)) in (self.data.ctrl_mut().iter_mut())
            .zip(&coupled.goals)
            .enumerate()
        {
            match goal {
                Some(goal) => *ctrl = *goal,
                None => without_torque |= 1 << i,
            }
        }
        self.data.model_opt_mut().disableactuator = without_torque;
        if let Some(Some(jaw)) = coupled.goals.last() {
            let off = |closed| (jaw - self.arm.fingers.position(closed)).abs();
            self.closed = off(true) < off(false);
        }
        self.data.step();
        coupled.tell(&self.data, &self.places);
    }

    /// What the arm reports.
    pub fn arm_state(&self) -> ArmState {
        let (qpos, qvel) = (self.data.qpos(), self.data.qvel());
        let vector = |places: &[usize], of: &[f64]| {
            let mut values = self.chain().zeros();
            for (value, &place) in values.as_mut_slice().iter_mut().zip(places) {
                *value = of[place];
            }
            values
        };
        let fingers = self.places.fingers_q.iter().map(|&place| qpos[place]);
        ArmState {
            time_ns: self.time_ns,
            q: vector(&self.places.arm_q, qpos),
            qd: vector(&self.places.arm_v, qvel),
            gripper_width_m: self.arm.fingers.width_m(fingers),
        }
    }

    /// What only a simulator knows.
    pub fn truth(&self) -> Truth {
        let cube = self.places.cube_q;
        let qpos = self.data.qpos();
        let cube_position_m = [qpos[cube], qpos[cube + 1], qpos[cube + 2]];
        let [w, x, y, z] = [3, 4, 5, 6].map(|i| qpos[cube + i]);
        let arm = self.arm_state();
        // Derived from the joints: MuJoCo's own site lags them by a step until the next forward.
        let tool = self.chain().base_from_tool(arm.q.as_slice()).translation;
        let cube_height_m = cube_position_m[2] - self.task.cube_half_m;
        Truth {
            cube_position_m,
            cube_height_m,
            cube_yaw_rad: (2.0 * (w * z + x * y)).atan2(1.0 - 2.0 * (y * y + z * z)),
            tool_position_m: [tool.x, tool.y, tool.z],
            gripper_width_m: arm.gripper_width_m,
            gripper_closed_command: self.closed,
            lifted: self.closed && cube_height_m > self.task.lifted_m,
        }
    }

    /// The tool's pose as MuJoCo itself computes it.
    pub fn world_from_tool(&mut self) -> Isometry3<f64> {
        self.data.forward();
        let site = self.places.tool_site;
        let rotation = nalgebra::Matrix3::from_row_slice(&self.data.site_xmat()[site]);
        Isometry3::from_parts(
            Translation3::from(Vector3::from(self.data.site_xpos()[site])),
            UnitQuaternion::from_matrix(&rotation),
        )
    }

    /// Draws camera `index` into `rgb`: height × width × 3 bytes, row 0 on top. A camera with a latency
    /// sees the scene as it was so long ago, or at the last reset.
    ///
    /// # Errors
    /// [`SimError::NoCamera`], [`SimError::BufferSize`], or what the renderer says.
    pub fn render(&mut self, index: usize, rgb: &mut [u8]) -> Result<(), SimError> {
        let moment = self.moment(index)?;
        let cameras = self.pictures.len();
        let painter = (self.painter.as_mut()).ok_or(SimError::NoCamera { index, cameras })?;
        painter.draw(index, &moment, rgb)
    }

    /// What camera `index` is to see now.
    pub(crate) fn moment(&mut self, index: usize) -> Result<Moment, SimError> {
        let cameras = self.pictures.len();
        let (Some(pictures), Some(camera)) =
            (self.pictures.get_mut(index), self.config.cameras.get(index))
        else {
            return Err(SimError::NoCamera { index, cameras });
        };
        let picture = *pictures;
        *pictures += 1;
        // From the last step, which is where the arm says that it is now.
        let then_ns = self.stepped_ns.saturating_sub(camera.latency_ns());
        let past = (camera.latency_ns() > 0).then(|| self.past.at(then_ns));
        let qpos = past.flatten().unwrap_or_else(|| self.data.qpos().to_vec());
        Ok(Moment { qpos, picture })
    }

    /// The pose of camera `index` (x right, y down, z forward), in the frame of what it is fixed to: the
    /// arm's base, or the hand, which is the chain's tool. What a perfect calibration finds.
    ///
    /// # Errors
    /// [`SimError::NoCamera`].
    pub fn frame_from_camera(&self, index: usize) -> Result<(Mount, Isometry3<f64>), SimError> {
        let cameras = self.config.cameras.len();
        let camera = self.config.cameras.get(index);
        let pose = camera.and_then(|c| Some((c.mount, c.mount_from_camera()?)));
        let (mount, pose) = pose.ok_or(SimError::NoCamera { index, cameras })?;
        Ok((mount, self.frame_from_mount(mount) * pose))
    }

    /// The pose of board `index` (the origin at its picture's top left, x right, y down, z into it), in
    /// the same frames.
    ///
    /// # Errors
    /// [`SimError::NoBoard`].
    pub fn frame_from_board(&self, index: usize) -> Result<(Mount, Isometry3<f64>), SimError> {
        let boards = self.config.boards.len();
        let board = self.config.boards.get(index);
        let pose = board.and_then(|b| Some((b.mount, b.mount_from_board()?)));
        let (mount, pose) = pose.ok_or(SimError::NoBoard { index, boards })?;
        Ok((mount, self.frame_from_mount(mount) * pose))
    }

    /// What is mounted on the hand is placed from its flange; its calibration is from the tool.
    fn frame_from_mount(&self, mount: Mount) -> Isometry3<f64> {
        let (model, site) = (self.data.model(), self.places.tool_site);
        match mount {
            Mount::World => Isometry3::identity(),
            Mount::Wrist => pose(model.site_pos()[site], model.site_quat()[site]).inverse(),
        }
    }
}

/// Servos that drive the joints, and what they said and heard last.
struct Coupled {
    servos: Box<dyn Servos>,
    goals: Vec<Option<f64>>,
    motions: Vec<Motion>,
}

impl Coupled {
    fn tell(&mut self, data: &MjData<Box<MjModel>>, places: &Places) {
        let (qpos, qvel) = (data.qpos(), data.qvel());
        let q = places.arm_q.iter().chain(&places.fingers_q);
        let v = places.arm_v.iter().chain(&places.fingers_v);
        for (motion, (&q, &v)) in self.motions.iter_mut().zip(q.zip(v)) {
            (motion.position, motion.velocity) = (qpos[q], qvel[v]);
        }
        self.servos.moved(&self.motions);
    }
}

impl Places {
    fn find(model: &MjModel, arm: &Model) -> Result<Self, SimError> {
        let at = |addresses: &[i32], name: &str| {
            let joint = id(model, MjtObjBase::mjOBJ_JOINT, name)?;
            usize::try_from(addresses[joint])
                .map_err(|_| SimError::Model(format!("joint `{name}`")))
        };
        let all = |addresses: &[i32], names: &[&str]| {
            let places = names.iter().map(|name| at(addresses, name));
            places.collect::<Result<Vec<_>, _>>()
        };
        let (q, v) = (model.jnt_qposadr(), model.jnt_dofadr());
        let fingers = arm.fingers.joints();
        Ok(Self {
            arm_q: all(q, arm.joints)?,
            arm_v: all(v, arm.joints)?,
            fingers_q: all(q, fingers)?,
            fingers_v: all(v, fingers)?,
            cube_q: at(q, "cube")?,
            cube_v: at(v, "cube")?,
            tool_site: id(model, MjtObjBase::mjOBJ_SITE, "tool")?,
        })
    }
}

pub(crate) fn id(model: &MjModel, kind: MjtObjBase, name: &str) -> Result<usize, SimError> {
    model
        .name_to_id(kind, name)
        .ok_or_else(|| SimError::Model(format!("it has no `{name}`")))
}

/// A pose of MuJoCo's.
fn pose(position: [f64; 3], [w, x, y, z]: [f64; 4]) -> Isometry3<f64> {
    Isometry3::from_parts(
        Translation3::from(Vector3::from(position)),
        UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z)),
    )
}

/// The kinematic chain of an arm, without a scene to move it in.
///
/// # Errors
/// [`SimError::Model`] when MuJoCo refuses it.
pub fn chain(arm: crate::ArmKind) -> Result<Chain, SimError> {
    let scene = SceneConfig {
        arm,
        cameras: Vec::new(),
        ..SceneConfig::default()
    };
    let model = MjModel::from_xml_string(&scene.mjcf()?);
    let model = model.map_err(|e| SimError::Model(e.to_string()))?;
    chain_of(&model, arm.model().joints)
}

/// Reads the arm's chain out of the model: the joints' bodies, each the child of the one before,
/// from the world to the tool's site.
fn chain_of(model: &MjModel, names: &[&str]) -> Result<Chain, SimError> {
    let body = |index: i32| usize::try_from(index).map_err(|_| SimError::Model("a body".into()));
    // A joint's frame is its body's, moved to the joint's anchor, which the chain moves back from.
    let mut joints = Vec::with_capacity(names.len());
    let mut parent = 0;
    let mut parent_from_body = Isometry3::identity();
    for name in names {
        let joint = id(model, MjtObjBase::mjOBJ_JOINT, name)?;
        let own = body(model.jnt_bodyid()[joint])?;
        if body(model.body_parentid()[own])? != parent
            || model.jnt_type()[joint] != MjtJoint::mjJNT_HINGE
        {
            return Err(SimError::Model(format!(
                "`{name}` is not the next hinge of the arm"
            )));
        }
        let anchor = Translation3::from(Vector3::from(model.jnt_pos()[joint]));
        let [lower, upper] = model.jnt_range()[joint];
        joints.push(Joint {
            parent_from_joint: parent_from_body
                * pose(model.body_pos()[own], model.body_quat()[own])
                * anchor,
            axis: Unit::new_normalize(Vector3::from(model.jnt_axis()[joint])),
            kind: JointKind::Revolute,
            lower,
            upper,
        });
        parent_from_body = Isometry3::from_parts(anchor.inverse(), UnitQuaternion::identity());
        parent = own;
    }
    let site = id(model, MjtObjBase::mjOBJ_SITE, "tool")?;
    if body(model.site_bodyid()[site])? != parent {
        return Err(SimError::Model(
            "`tool` is not on the last joint's body".into(),
        ));
    }
    let last_from_tool = parent_from_body * pose(model.site_pos()[site], model.site_quat()[site]);
    Chain::new(joints, last_from_tool).map_err(|e| SimError::Model(e.to_string()))
}
