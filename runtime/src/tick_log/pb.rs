//! The messages of the log as they lie in bytes. [`super::schema`] says the same to other tools.
//!
//! Numbers of which every bit counts are in lists or `optional`: protobuf leaves out a plain -0.0.

/// Where an arm is sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Target {
    #[prost(uint32, tag = "1")]
    pub arm: u32,
    #[prost(double, repeated, tag = "2")]
    pub joints: Vec<f64>,
    #[prost(bool, tag = "3")]
    pub closed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(uint64, tag = "2")]
    pub activate_ns: u64,
    #[prost(message, repeated, tag = "3")]
    pub arms: Vec<Target>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Fault {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub place: u32,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub error: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct State {
    #[prost(uint64, tag = "1")]
    pub captured_ns: u64,
    #[prost(double, repeated, tag = "2")]
    pub joints: Vec<f64>,
    #[prost(double, repeated, tag = "3")]
    pub velocities: Vec<f64>,
    #[prost(double, optional, tag = "4")]
    pub gripper_width_m: Option<f64>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub trouble: Option<Vec<u8>>,
}

/// Either a state or an error.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Report {
    #[prost(uint32, tag = "1")]
    pub arm: u32,
    #[prost(message, optional, tag = "2")]
    pub state: Option<State>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub error: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Order {
    #[prost(uint64, tag = "1")]
    pub written_ns: u64,
    #[prost(uint32, tag = "2")]
    pub wish: u32,
    #[prost(message, optional, tag = "3")]
    pub command: Option<Command>,
    #[prost(message, optional, tag = "4")]
    pub fault: Option<Fault>,
    #[prost(uint64, tag = "5")]
    pub resets: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Times {
    #[prost(uint64, tag = "1")]
    pub due_ns: u64,
    #[prost(uint64, tag = "2")]
    pub woke_ns: u64,
    #[prost(uint64, tag = "3")]
    pub read_ns: u64,
    #[prost(uint64, tag = "4")]
    pub decided_ns: u64,
    #[prost(uint64, tag = "5")]
    pub written_ns: u64,
}

/// What went to an arm, and what it said to it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Written {
    #[prost(uint32, tag = "1")]
    pub arm: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub sent: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub error: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tick {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(uint64, tag = "2")]
    pub missed: u64,
    #[prost(message, optional, tag = "3")]
    pub times: Option<Times>,
    #[prost(uint64, tag = "4")]
    pub now_ns: u64,
    #[prost(message, optional, tag = "5")]
    pub order: Option<Order>,
    #[prost(message, repeated, tag = "6")]
    pub reports: Vec<Report>,
    #[prost(uint64, repeated, tag = "7")]
    pub frames_ns: Vec<u64>,
    #[prost(bool, tag = "8")]
    pub overtaken: bool,
    #[prost(uint32, tag = "9")]
    pub outcome: u32,
    #[prost(uint32, tag = "10")]
    pub mode: u32,
    #[prost(message, optional, tag = "11")]
    pub fault: Option<Fault>,
    #[prost(message, repeated, tag = "12")]
    pub written: Vec<Written>,
    #[prost(fixed64, tag = "13")]
    pub hash: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Intent {
    #[prost(uint64, tag = "1")]
    pub captured_ns: u64,
    /// Arm after arm: x, y, z, roll, pitch, yaw.
    #[prost(double, repeated, tag = "2")]
    pub motion: Vec<f64>,
    #[prost(uint32, repeated, tag = "3")]
    pub grippers: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Stand {
    #[prost(message, optional, tag = "1")]
    pub state: Option<State>,
    /// The tool's target: x, y, z, and the quaternion i, j, k, w.
    #[prost(double, repeated, tag = "2")]
    pub base_from_tool: Vec<f64>,
    #[prost(message, optional, tag = "3")]
    pub target: Option<Target>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Step {
    #[prost(uint32, tag = "1")]
    pub source: u32,
    #[prost(uint32, tag = "2")]
    pub by: u32,
    #[prost(fixed64, tag = "3")]
    pub noise_seed: u64,
    #[prost(uint64, tag = "4")]
    pub policy_version: u64,
    #[prost(message, optional, tag = "5")]
    pub intent: Option<Intent>,
    #[prost(float, repeated, tag = "6")]
    pub policy_output: Vec<f32>,
    #[prost(message, repeated, tag = "7")]
    pub stands: Vec<Stand>,
    #[prost(float, repeated, tag = "8")]
    pub action: Vec<f32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Home {
    #[prost(message, repeated, tag = "1")]
    pub from: Vec<Target>,
    #[prost(double, repeated, tag = "2")]
    pub home: Vec<f64>,
}

/// Either a step or the way home.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Decision {
    #[prost(uint64, tag = "1")]
    pub now_ns: u64,
    #[prost(message, optional, tag = "2")]
    pub step: Option<Step>,
    #[prost(message, optional, tag = "3")]
    pub home: Option<Home>,
    #[prost(message, optional, tag = "4")]
    pub command: Option<Command>,
    #[prost(bool, optional, tag = "5")]
    pub followed: Option<bool>,
    #[prost(fixed64, tag = "6")]
    pub hash: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Bounds {
    #[prost(uint32, tag = "1")]
    pub arm: u32,
    #[prost(double, repeated, tag = "2")]
    pub lower: Vec<f64>,
    #[prost(double, repeated, tag = "3")]
    pub upper: Vec<f64>,
    #[prost(double, optional, tag = "4")]
    pub velocity_rad_s: Option<f64>,
    #[prost(double, optional, tag = "5")]
    pub acceleration_rad_s2: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Config {
    #[prost(uint32, tag = "1")]
    pub arms: u32,
    #[prost(uint32, tag = "2")]
    pub cameras: u32,
    #[prost(uint64, tag = "3")]
    pub interpolation_ns: u64,
    #[prost(uint64, tag = "4")]
    pub tick_ns: u64,
    #[prost(uint64, tag = "5")]
    pub late_command_ns: u64,
    #[prost(message, repeated, tag = "6")]
    pub bounds: Vec<Bounds>,
    #[prost(uint64, tag = "7")]
    pub state_age_ns: u64,
    #[prost(uint64, tag = "8")]
    pub frame_age_ns: u64,
    #[prost(uint64, tag = "9")]
    pub policy_age_ns: u64,
    #[prost(uint64, tag = "10")]
    pub tick_age_ns: u64,
    #[prost(bool, tag = "11")]
    pub gripper_closed: bool,
    #[prost(double, optional, tag = "12")]
    pub following_rad: Option<f64>,
    #[prost(uint64, tag = "13")]
    pub astray_age_ns: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Joint {
    /// As a stand's pose.
    #[prost(double, repeated, tag = "1")]
    pub parent_from_joint: Vec<f64>,
    #[prost(double, repeated, tag = "2")]
    pub axis: Vec<f64>,
    #[prost(bool, tag = "3")]
    pub slides: bool,
    #[prost(double, optional, tag = "4")]
    pub lower: Option<f64>,
    #[prost(double, optional, tag = "5")]
    pub upper: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Servo {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(uint32, tag = "2")]
    pub zero_counts: u32,
    #[prost(bool, tag = "3")]
    pub against: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Servos {
    #[prost(message, repeated, tag = "1")]
    pub joints: Vec<Servo>,
    #[prost(uint32, tag = "2")]
    pub gripper_id: u32,
    #[prost(uint32, tag = "3")]
    pub open_counts: u32,
    #[prost(uint32, tag = "4")]
    pub closed_counts: u32,
    #[prost(double, optional, tag = "5")]
    pub open_width_m: Option<f64>,
    #[prost(double, optional, tag = "6")]
    pub closed_width_m: Option<f64>,
    #[prost(uint32, tag = "7")]
    pub baud: u32,
    #[prost(double, optional, tag = "8")]
    pub max_speed_rad_s: Option<f64>,
    /// Dynamixel X; else STS3215.
    #[prost(bool, tag = "9")]
    pub dynamixel: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Arm {
    #[prost(message, repeated, tag = "1")]
    pub joints: Vec<Joint>,
    #[prost(double, repeated, tag = "2")]
    pub last_from_tool: Vec<f64>,
    #[prost(bool, tag = "3")]
    pub remote: bool,
    #[prost(message, optional, tag = "4")]
    pub servos: Option<Servos>,
    #[prost(bytes = "vec", tag = "5")]
    pub will: Vec<u8>,
}

/// How the control loop began.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Began {
    #[prost(message, optional, tag = "1")]
    pub config: Option<Config>,
    #[prost(uint64, tag = "2")]
    pub late_tick_ns: u64,
    #[prost(message, repeated, tag = "3")]
    pub targets: Vec<Target>,
    #[prost(message, repeated, tag = "4")]
    pub arms: Vec<Arm>,
}
