//! What can go wrong.

/// Why the simulator cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// A value of the scene's configuration is impossible.
    #[error("scene: {field} {problem}")]
    Config {
        /// The field.
        field: String,
        /// Its value and what would be right.
        problem: String,
    },
    /// MuJoCo does not take the scene.
    #[error("scene: MuJoCo refuses the model: {0}")]
    Model(String),
    /// A library that headless rendering loads at run time is missing.
    #[error(
        "rendering needs {library} ({reason}); install it with `cargo xtask setup` \
         (Debian packages libegl1, libegl-mesa0 and libgl1-mesa-dri)"
    )]
    MissingLibrary {
        /// The library's file name.
        library: String,
        /// What the dynamic linker said.
        reason: String,
    },
    /// EGL is there but gives no off-screen context.
    #[error(
        "EGL gives no off-screen context: {0}; Mesa's software driver works without a GPU \
         (`cargo xtask setup` installs libegl-mesa0 and libgl1-mesa-dri)"
    )]
    Renderer(String),
    /// There is no such camera.
    #[error("the scene has {cameras} cameras; there is no camera {index}")]
    NoCamera {
        /// Which was asked for, from 0.
        index: usize,
        /// How many there are.
        cameras: usize,
    },
    /// There is no such board.
    #[error("the scene has {boards} boards; there is no board {index}")]
    NoBoard {
        /// Which was asked for, from 0.
        index: usize,
        /// How many there are.
        boards: usize,
    },
    /// A frame buffer has the wrong length.
    #[error("camera {camera} gives {expected} bytes a frame; the buffer has {got}")]
    BufferSize {
        /// Which camera, from 0.
        camera: usize,
        /// height × width × 3.
        expected: usize,
        /// What was passed.
        got: usize,
    },
    /// A command does not have one finite number per joint.
    #[error("a command is {expected} finite joint targets (radians), not {got}")]
    Command {
        /// The arm's joints.
        expected: usize,
        /// What came instead.
        got: String,
    },
    /// A start cannot be set up.
    #[error("start: {0}")]
    Start(String),
    /// There is no such task.
    #[error("there is no task `{id}`; there are {known}")]
    UnknownTask {
        /// Which was asked for.
        id: String,
        /// Those that there are.
        known: String,
    },
    /// A model of Gymnasium's is missing.
    #[error(
        "Gymnasium's model {path} cannot be read ({reason}); fetch it with `cargo xtask setup`, or set \
         GYMNASIUM_ASSETS to the folder that has it"
    )]
    MissingModel {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The thread that owns the physics has ended.
    #[error("the simulation's thread has ended; spawn a new one")]
    Ended,
}
