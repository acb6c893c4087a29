//! What may be typed after `hilt calibrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hilt_calibration::board::Board;
use hilt_protocol::calibration::Frame;

use crate::rig_args::RigArgs;

/// The board that is printed if none is named: it fills a sheet of A4.
const A4: &str = "charuco:7x5:38:28";

#[derive(Subcommand)]
pub enum Calibrate {
    /// Draw the board that cameras are shown, to be printed: an SVG or a PNG.
    Board {
        /// Its squares, and millimetres of a square and a marker.
        #[arg(long, value_name = "BOARD", default_value = A4)]
        board: Board,
        /// The file: .svg for a printer, .png for a screen.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Where an arm's joints are zero, which way they turn and how far: a person leads it by hand. Written to
    /// its servos and to the rig's calibration.
    Joints {
        #[command(flatten)]
        arm: ArmArgs,
    },
    /// Take an arm's joints from a calibration of LeRobot's. Look at the arm afterwards: LeRobot does not know
    /// which way a joint turns, and takes the middle of its range for zero.
    Import {
        #[command(flatten)]
        arm: ArmArgs,
        /// LeRobot's file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// See an arm's joints turn: their angles by the calibration while they are turned by hand. Nothing is moved
    /// and nothing written.
    Look {
        #[command(flatten)]
        arm: ArmArgs,
    },
    /// Write an arm's joints as a calibration of LeRobot's.
    Export {
        #[command(flatten)]
        arm: ArmArgs,
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// A camera's lens and sensor, from views of a board: a person holds it up, or an arm goes about.
    Intrinsics {
        #[command(flatten)]
        rig: RigArgs,
        /// The camera's name.
        #[arg(long)]
        camera: String,
        /// The board, its squares measured on the print.
        #[arg(long, value_name = "BOARD", default_value = A4)]
        board: Board,
        /// Take the PNG files of this folder and no camera.
        #[arg(long, value_name = "DIR", conflicts_with = "move_arm")]
        pictures: Option<PathBuf>,
        /// Let the arm of this number go about by itself.
        #[arg(long, value_name = "ARM", requires = "on")]
        move_arm: Option<usize>,
        /// What the camera is fixed to; the board is fixed to the other.
        #[arg(long, value_enum)]
        on: Option<On>,
        /// Views that the arm takes.
        #[arg(long, default_value_t = 20)]
        views: usize,
        /// Do not ask whether the arm may move.
        #[arg(long)]
        yes: bool,
        /// Keep what is found though it is not good, in the place of what was there.
        #[arg(long)]
        keep_anyway: bool,
    },
    /// Where a camera is fixed, to the hand or to the room: the arm goes about by itself, the board lies
    /// still or is in its hand.
    HandEye {
        #[command(flatten)]
        tour: TourArgs,
        /// What the camera is fixed to; the board is fixed to the other.
        #[arg(long, value_enum)]
        on: On,
        /// The arm.
        #[arg(long, default_value_t = 0)]
        arm: usize,
    },
    /// Where the bases of two arms stand to each other: a camera in the room sees a board in the hand of
    /// each.
    Bases {
        #[command(flatten)]
        tour: TourArgs,
    },
    /// How late a camera's frames are: a joint swings before it.
    Latency {
        #[command(flatten)]
        rig: RigArgs,
        /// The camera's name.
        #[arg(long)]
        camera: String,
        /// The arm that swings.
        #[arg(long, default_value_t = 0)]
        arm: usize,
        /// Do not ask whether the arm may move.
        #[arg(long)]
        yes: bool,
    },
    /// Show what was measured of a rig, and when.
    Show {
        #[command(flatten)]
        rig: RigArgs,
    },
}

/// An arm of servos.
#[derive(Args)]
pub struct ArmArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// Its number, from 0.
    #[arg(long, default_value_t = 0)]
    pub arm: usize,
    /// The leader of that number, not the arm.
    #[arg(long)]
    pub leader: bool,
}

/// An arm that goes about before a camera.
#[derive(Args)]
pub struct TourArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// The camera's name.
    #[arg(long)]
    pub camera: String,
    /// The board, its squares measured on the print.
    #[arg(long, value_name = "BOARD", default_value = A4)]
    pub board: Board,
    /// Views.
    #[arg(long, default_value_t = 20)]
    pub views: usize,
    /// Do not ask whether the arm may move.
    #[arg(long)]
    pub yes: bool,
    /// Keep what is found though it is not good, in the place of what was there.
    #[arg(long)]
    pub keep_anyway: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum On {
    /// The arm's hand; the board lies still.
    Hand,
    /// The room; the board is in the hand.
    Base,
}

impl From<On> for Frame {
    fn from(on: On) -> Self {
        match on {
            On::Hand => Self::Hand,
            On::Base => Self::Base,
        }
    }
}
