//! Pictures of a board, and what is seen in them.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use hilt_calibration::{
    board::{Board, BoardView},
    detect::{self, DetectError},
    hand_eye::{HandEye, PlanError, PlanOptions, Sight, View, hand_eye, is_clear, view_poses},
    intrinsics::{self, Missing},
    picture::{Gray, PixelsError},
};
use hilt_drivers::{Camera, CameraError, v4l2::V4l2Camera};
use hilt_protocol::{
    Image, JointVector,
    calibration::{Frame, Intrinsics},
};
use nalgebra::Isometry3;

use super::{CalibrateError, Station, StationError, station::at_full_size};
use crate::rig::{Device, Rig};

/// Why there are no views.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The folder or a picture in it.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The camera.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// The camera cannot be opened.
    #[error("camera `{name}` cannot be opened: {reason}")]
    Open {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// A frame that is none.
    #[error(transparent)]
    Pixels(#[from] PixelsError),
    /// In a simulated rig nobody holds a board.
    #[error(
        "in a simulated rig nobody holds the board; let the arm go about, with --move-arm, or name pictures with --pictures"
    )]
    Nobody,
    /// In none the board is seen.
    #[error("the board is seen in none of {pictures} pictures; in the first: {first}")]
    NoBoard {
        /// How many there were.
        pictures: usize,
        /// Why not.
        first: DetectError,
    },
}

/// A picture, where the hand was, and what is seen.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The picture.
    pub picture: Gray,
    /// Pose of the hand (the chain's tool) in the arm's base frame, where an arm was part of it.
    pub base_from_hand: Option<Isometry3<f64>>,
    /// The board in it.
    pub seen: Result<BoardView, DetectError>,
}

/// What a procedure tells meanwhile: a sentence that stays, how far it is, what is seen.
pub trait Watch {
    /// A sentence.
    fn say(&mut self, words: &str);

    /// So many views of so many, and what is seen now.
    fn stand(&mut self, views: usize, of: usize, now: &str, image: &Image);
}

/// A camera's frame in gray.
pub fn gray(image: &Image) -> Result<Gray, PixelsError> {
    Gray::from_rgb(image.width, image.height, &image.rgb)
}

/// What the shots with a board in them show.
pub fn seen(shots: &[Shot]) -> Vec<BoardView> {
    let seen = shots.iter().filter_map(|shot| shot.seen.clone().ok());
    seen.collect()
}

/// The pictures of these.
pub fn pictures(shots: &[Shot]) -> Vec<&Gray> {
    let with_board = shots.iter().filter(|shot| shot.seen.is_ok());
    with_board.map(|shot| &shot.picture).collect()
}

/// The same, with where the hand was.
pub fn with_hand(shots: &[Shot]) -> Vec<View> {
    let view = |shot: &Shot| {
        Some(View {
            base_from_hand: shot.base_from_hand?,
            seen: shot.seen.clone().ok()?,
        })
    };
    shots.iter().filter_map(view).collect()
}

/// Refuses shots of which none shows the board.
pub fn any_seen(shots: &[Shot]) -> Result<(), ViewsError> {
    let first = match shots.first() {
        Some(Shot { seen: Err(why), .. }) => why.clone(),
        Some(_) => return Ok(()),
        None => DetectError::NoBoard,
    };
    match shots.iter().any(|shot| shot.seen.is_ok()) {
        true => Ok(()),
        false => Err(ViewsError::NoBoard {
            pictures: shots.len(),
            first,
        }),
    }
}

/// The PNG files of a folder, by name.
pub fn of_pictures(folder: &Path, board: &Board) -> Result<Vec<Shot>, ViewsError> {
    let bad = |path: &Path, reason: String| ViewsError::File {
        path: path.to_owned(),
        reason,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| bad(folder, error.to_string()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| bad(folder, error.to_string()))?
            .path();
        if path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(bad(
            folder,
            "has no PNG file; pictures are read as PNG".to_owned(),
        ));
    }
    files.sort();
    let read = |path: &PathBuf| {
        let picture = image::open(path).map_err(|error| bad(path, error.to_string()))?;
        let picture = picture.to_luma8();
        let picture = Gray::new(picture.width(), picture.height(), picture.into_raw())?;
        Ok(Shot {
            seen: detect::detect(&picture, board),
            base_from_hand: None,
            picture,
        })
    };
    files.iter().map(read).collect()
}

/// The rig's camera of this name by itself, at the size of its sensor: no arm is touched.
pub fn camera_alone(rig: &Rig, name: &str) -> Result<Box<dyn Camera>, CalibrateError> {
    if rig.device != Device::Real {
        return Err(ViewsError::Nobody.into());
    }
    let open = |reason: String| ViewsError::Open {
        name: name.to_owned(),
        reason,
    };
    let camera = rig.cameras.iter().find(|camera| camera.name == name);
    let mut camera = camera
        .cloned()
        .ok_or_else(|| open("the rig has none".to_owned()))?;
    at_full_size(&mut camera);
    let spec = camera.spec();
    let v4l2 = camera
        .v4l2
        .ok_or_else(|| open("it has no device".to_owned()))?;
    let opened = V4l2Camera::open(v4l2, spec).map_err(|error| open(error.to_string()))?;
    Ok(Box::new(opened))
}

/// So many views, at most, that a person holds the board for.
const MOST_HELD: usize = 40;
/// A board is held still when its corners moved by no more than this from frame to frame, pixels.
const STILL_PX: f64 = 1.0;

/// Views of a board that a person holds up and moves about: each is taken by itself when the board is held
/// still and shows something new, until nothing is missing.
pub fn of_a_person(
    camera: &mut dyn Camera,
    board: &Board,
    stop: &AtomicBool,
    watch: &mut dyn Watch,
) -> Result<Vec<Shot>, CalibrateError> {
    let mut shots: Vec<Shot> = Vec::new();
    let mut before: Option<BoardView> = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(StationError::Stopped.into());
        }
        let image = camera.newest().map_err(ViewsError::from)?;
        let picture = gray(&image).map_err(ViewsError::from)?;
        let detected = detect::detect(&picture, board);
        let taken = seen(&shots);
        let missing = intrinsics::missing(board, &taken);
        if missing.is_empty() || shots.len() >= MOST_HELD {
            return Ok(shots);
        }
        let now = match &detected {
            Err(why) => why.to_string(),
            Ok(view) if !intrinsics::is_new(&taken, view) => "as before; move it".to_owned(),
            Ok(view) if before.as_ref().is_none_or(|b| moved_px(b, view) > STILL_PX) => {
                "hold it still".to_owned()
            }
            Ok(_) => "taken".to_owned(),
        };
        let wishes: Vec<_> = missing.iter().map(Missing::to_string).collect();
        let words = format!("{now}\nmissing: {}", wishes.join("; "));
        let of = shots.len() + missing.len();
        watch.stand(shots.len(), of, &words, &image);
        before = detected.as_ref().ok().cloned();
        if now == "taken" {
            shots.push(Shot {
                picture,
                base_from_hand: None,
                seen: detected,
            });
        }
    }
}

/// How far common corners moved, pixels, at most.
fn moved_px(a: &BoardView, b: &BoardView) -> f64 {
    let moved = a.corners.iter().filter_map(|corner| {
        let other = b.corners.iter().find(|other| other.id == corner.id)?;
        let [dx, dy] = [0, 1].map(|i| corner.pixel[i] - other.pixel[i]);
        Some(dx.hypot(dy))
    });
    moved.reduce(f64::max).unwrap_or(f64::INFINITY)
}

/// Which camera looks at which board, and which arm goes about.
#[derive(Clone, Debug)]
pub struct Tour {
    /// The camera's name.
    pub camera: String,
    /// The arm's number.
    pub arm: usize,
    /// What the camera is fixed to; the board is fixed to the other.
    pub frame: Frame,
    /// The board.
    pub board: Board,
    /// So many views.
    pub views: usize,
    /// The hand does not come below this, metres in the arm's base frame.
    pub lowest_m: f64,
    /// Where the arm goes is drawn from this.
    pub seed: u64,
}

/// Views that are taken near the start, to learn roughly where camera and board are.
const FIRST_VIEWS: usize = 9;
/// For these the hand is turned and moved by so much.
const FIRST_TURN_RAD: f64 = 0.3;
const FIRST_REACH_M: f64 = 0.05;
/// A hand with a board in it sinks no farther meanwhile, metres.
const SINKS_M: f64 = 0.005;
/// Fewer poses than this are no tour.
const LEAST_POSES: usize = 8;

impl Tour {
    /// Lets the arm go about and takes views: first some near where it stands, and, when from these it is
    /// roughly known where camera and board are, the rest where the board stays in the picture. `lens`: the
    /// camera's, or a guess at it.
    pub fn go(
        &self,
        station: &mut Station,
        lens: &dyn Fn(&[Shot]) -> Intrinsics,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Shot>, CalibrateError> {
        let chain = station.chain(self.arm)?;
        let start = station.target(self.arm)?;
        let options = |views, turn_rad, reach_m| PlanOptions {
            views,
            turn_rad,
            reach_m,
            lowest_m: self.lowest_m,
            seed: self.seed,
            ..PlanOptions::default()
        };
        let mut near = options(FIRST_VIEWS, FIRST_TURN_RAD, FIRST_REACH_M);
        if self.frame == Frame::Base {
            // How the board sits in the hand is not known yet: the hand goes no lower than it is.
            let height_m = chain.base_from_tool(start.as_slice()).translation.z;
            near.lowest_m = near.lowest_m.max(height_m - SINKS_M);
        }
        let near_poses = view_poses(&chain, &start, &near, None)?;
        let of = FIRST_VIEWS + self.views;
        let mut shots = Vec::new();
        self.take(station, &near_poses, of, &mut shots, watch)?;
        any_seen(&shots)?;
        let lens = lens(&shots);
        let rough: HandEye = hand_eye(&lens, &self.board, self.frame, &with_hand(&shots))?;
        let sight = Sight {
            intrinsics: &lens,
            board: &self.board,
            frame: self.frame,
            frame_from_camera: rough.frame_from_camera,
            other_from_board: rough.other_from_board,
        };
        let defaults = PlanOptions::default();
        let wide = options(self.views, defaults.turn_rad, defaults.reach_m);
        let poses = match view_poses(&chain, &start, &wide, Some(&sight)) {
            Err(PlanError::TooFew { found, .. }) if found >= LEAST_POSES => {
                let fewer = PlanOptions {
                    views: found,
                    ..wide
                };
                view_poses(&chain, &start, &fewer, Some(&sight))?
            }
            poses => poses?,
        };
        // Each way of a plan is clear; that to its begin, which is the start, and the one back may not be.
        let home = |station: &mut Station, came: &[JointVector]| {
            let here = station.target(self.arm)?;
            let straight = is_clear(&chain, &here, &start, self.lowest_m, Some(&sight));
            // Else back the way that it came.
            let back = came.iter().rev().filter(|_| !straight);
            for pose in back.chain([&start]) {
                station.look_at(self.arm, pose)?;
            }
            Ok::<(), CalibrateError>(())
        };
        home(station, &near_poses)?;
        self.take(station, &poses, of, &mut shots, watch)?;
        home(station, &poses)?;
        Ok(shots)
    }

    fn take(
        &self,
        station: &mut Station,
        poses: &[JointVector],
        of: usize,
        shots: &mut Vec<Shot>,
        watch: &mut dyn Watch,
    ) -> Result<(), CalibrateError> {
        let camera = station.camera(&self.camera)?;
        let chain = station.chain(self.arm)?;
        for pose in poses {
            let look = station.look_at(self.arm, pose)?;
            let image = &look.images[camera];
            let picture = gray(image).map_err(ViewsError::from)?;
            let detected = detect::detect(&picture, &self.board);
            let words = match &detected {
                Ok(view) => format!("{} corners", view.corners.len()),
                Err(why) => why.to_string(),
            };
            // Where it stands, not where it was sent.
            let joints = look.states[self.arm].joints;
            shots.push(Shot {
                picture,
                base_from_hand: Some(chain.base_from_tool(joints.as_slice())),
                seen: detected,
            });
            watch.stand(shots.len(), of, &words, image);
        }
        Ok(())
    }
}
