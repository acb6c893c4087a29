//! `hilt calibrate …`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use hilt_calibration::{
    board::Board,
    file,
    joints::lerobot,
    page::{self, Page},
};
use hilt_protocol::{
    Image,
    calibration::{ArmCalibration, Calibration, Frame},
};
use hilt_runtime::{
    calibrate::{
        CalibrateError, Station, StationError, bases, joints, kept, latency, lens, mounting,
        views::{self, Shot, Tour, Watch},
    },
    rig::{Device, Rig},
};
use hilt_show::Show;

use super::{args::RigArgs, runs::picture};

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
    rig: RigArgs,
    /// Its number, from 0.
    #[arg(long, default_value_t = 0)]
    arm: usize,
    /// The leader of that number, not the arm.
    #[arg(long)]
    leader: bool,
}

/// An arm that goes about before a camera.
#[derive(Args)]
pub struct TourArgs {
    #[command(flatten)]
    rig: RigArgs,
    /// The camera's name.
    #[arg(long)]
    camera: String,
    /// The board, its squares measured on the print.
    #[arg(long, value_name = "BOARD", default_value = A4)]
    board: Board,
    /// Views.
    #[arg(long, default_value_t = 20)]
    views: usize,
    /// Do not ask whether the arm may move.
    #[arg(long)]
    yes: bool,
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

pub fn calibrate(what: Calibrate, stop: &AtomicBool) -> anyhow::Result<()> {
    match what {
        Calibrate::Board { board, out } => draw(&board, &out),
        Calibrate::Joints { arm } => {
            let rig = arm.rig.read()?;
            kept::place(&rig)?;
            let date = kept::date();
            let found = joints::calibrate_joints(&rig, arm.arm, arm.leader, &date, stop)?;
            arm.keep(&rig, found)
        }
        Calibrate::Import { arm, file } => {
            let rig = arm.rig.read()?;
            kept::place(&rig)?;
            let name = || file.display().to_string();
            let text = fs::read_to_string(&file).with_context(name)?;
            let date = kept::date();
            let found = joints::import_lerobot(&rig, arm.arm, arm.leader, &text, &date);
            arm.keep(&rig, found.with_context(name)?)?;
            println!(
                "which way the joints turn is not in it: see with hilt doctor --rig FILE --hardware, a hand on the switch"
            );
            Ok(())
        }
        Calibrate::Export { arm, file } => {
            let rig = arm.rig.read()?;
            let known = rig.calibrated().and_then(|c| match arm.leader {
                true => c.leader(arm.arm),
                false => c.arm(arm.arm),
            });
            let known =
                known.context("these joints are not calibrated; run: hilt calibrate joints")?;
            file::write_text(&file, &lerobot::export(known))?;
            println!("written to {}", file.display());
            Ok(())
        }
        Calibrate::Intrinsics {
            rig,
            camera,
            board,
            pictures,
            move_arm,
            on,
            views,
            yes,
        } => {
            let rig = rig.read()?;
            kept::place(&rig)?;
            board.check()?;
            let mut screen = Screen::new("intrinsics", Some(views as u64));
            let shots = match (pictures, move_arm, on) {
                (Some(folder), ..) => views::of_pictures(&folder, &board)?,
                (None, Some(arm), Some(on)) => {
                    may_move(&rig, yes)?;
                    let tour = tour(&rig, &camera, arm, on.into(), board, views);
                    let mut station = Station::open(&rig, stop)?;
                    lens::tour(&mut station, &tour, &mut screen)?
                }
                _ => {
                    let mut camera = views::camera_alone(&rig, &camera)?;
                    screen.say(
                        "hold the board before the camera; each view is taken when it is still",
                    );
                    views::of_a_person(&mut *camera, &board, stop, &mut screen)?
                }
            };
            screen.end();
            intrinsics(&rig, &camera, &board, &shots)
        }
        Calibrate::HandEye {
            tour: args,
            on,
            arm,
        } => {
            let (rig, lens) = args.read()?;
            let tour = tour(&rig, &args.camera, arm, on.into(), args.board, args.views);
            let mut screen = Screen::new("hand-eye", None);
            let mut station = Station::open(&rig, stop)?;
            let (found, shots) = mounting::tour(&mut station, &tour, &lens, &mut screen)?;
            drop(station);
            screen.end();
            let (views, pictures) = (views::with_hand(&shots), views::pictures(&shots));
            let page = page::hand_eye(&found, &lens, &tour.board, &views, &pictures);
            for (number, why) in found.left_out() {
                println!("view {number} was left out: {why}");
            }
            println!("{}", found.verdict());
            println!(
                "{} of {} views, {:.2} px left",
                found.used(),
                shots.len(),
                found.rms_px
            );
            let mounting = found.mounting(&kept::date(), arm);
            let path = kept::keep(&rig, |c| {
                about(&rig, c, &args.camera).mounting = Some(mounting);
            })?;
            written(&path, &format!("{}-mounting", args.camera), &page)
        }
        Calibrate::Bases { tour: args } => {
            let (rig, lens) = args.read()?;
            if rig.mode.arms() != 2 {
                bail!("the rig has one arm; bases are those of two");
            }
            let tour = tour(&rig, &args.camera, 0, Frame::Base, args.board, args.views);
            let mut screen = Screen::new("bases", None);
            let mut station = Station::open(&rig, stop)?;
            let asks = rig.device == Device::Real;
            let ready = |arm: usize| {
                if asks {
                    println!(
                        "put the board into the hand of arm {arm}, take hands away, then press enter"
                    );
                    wait_for_enter()?;
                }
                Ok(())
            };
            let (found, [first, second]) =
                bases::tours(&mut station, &tour, &lens, ready, &mut screen)?;
            drop(station);
            screen.end();
            let views = [views::with_hand(&first), views::with_hand(&second)];
            let pictures = [views::pictures(&first), views::pictures(&second)];
            let page = page::bases(
                &found,
                &lens,
                [&tour.board; 2],
                [&views[0], &views[1]],
                [&pictures[0], &pictures[1]],
            );
            println!("{}", found.verdict());
            let path = kept::keep(&rig, |c| c.bases = Some(found.bases(&kept::date())))?;
            written(&path, "bases", &page)
        }
        Calibrate::Latency {
            rig,
            camera,
            arm,
            yes,
        } => {
            let rig = rig.read()?;
            kept::place(&rig)?;
            may_move(&rig, yes)?;
            let mut screen = Screen::new("latency", None);
            let mut station = Station::open_for_sweep(&rig, stop)?;
            let (found, swing) = latency::measure(&mut station, &camera, arm, &mut screen)?;
            drop(station);
            screen.end();
            println!(
                "frames of camera {camera} are {:.1} ms late, ± {:.1} ms",
                found.delay_ms, found.spread_ms
            );
            let path = kept::keep(&rig, |c| {
                about(&rig, c, &camera).latency_ms = Some(found.delay_ms);
            })?;
            let page = page::latency(&camera, &found, &swing.joint);
            written(&path, &format!("{camera}-latency"), &page)?;
            if found.delay_ms >= rig.ages.frame_ms {
                println!(
                    "give the rig an ages.frame_ms above that; it is {}, and no frame is young enough now",
                    rig.ages.frame_ms
                );
            }
            Ok(())
        }
        Calibrate::Show { rig } => {
            let rig = rig.read()?;
            match rig.calibrated() {
                Some(calibration) => print!("{}", words(calibration)),
                None => println!("nothing was measured of rig `{}`", rig.name),
            }
            Ok(())
        }
    }
}

impl TourArgs {
    /// The rig, and the camera's lens, when the arm may move.
    fn read(&self) -> anyhow::Result<(Rig, hilt_protocol::calibration::Intrinsics)> {
        let rig = self.rig.read()?;
        kept::place(&rig)?;
        self.board.check()?;
        let lens = mounting::lens(&rig, &self.camera)?;
        may_move(&rig, self.yes)?;
        Ok((rig, lens))
    }
}

fn tour(rig: &Rig, camera: &str, arm: usize, frame: Frame, board: Board, views: usize) -> Tour {
    Tour {
        camera: camera.to_owned(),
        arm,
        frame,
        board,
        views,
        lowest_m: rig.limits.workspace_min_m[2],
        seed: 0,
    }
}

/// The place for what is measured of a camera, which says which device that is.
fn about<'a>(
    rig: &Rig,
    calibration: &'a mut Calibration,
    camera: &str,
) -> &'a mut hilt_protocol::calibration::CameraCalibration {
    let settings = rig.cameras.iter().find(|other| other.name == camera);
    let v4l2 = settings.and_then(|camera| camera.v4l2.as_ref());
    let place = calibration.camera_mut(camera);
    place.device = v4l2.map(|v4l2| v4l2.device.display().to_string());
    place
}

fn intrinsics(rig: &Rig, camera: &str, board: &Board, shots: &[Shot]) -> anyhow::Result<()> {
    let report = lens::of_shots(board, shots)?;
    let with_board = shots
        .iter()
        .enumerate()
        .filter(|(_, shot)| shot.seen.is_ok());
    for ((number, _), view) in with_board.zip(&report.views) {
        if let Some(why) = &view.left_out {
            println!("view {} was left out: {why}", number + 1);
        }
    }
    println!("{}", report.verdict);
    let page = page::intrinsics(&report, &views::seen(shots), &views::pictures(shots));
    let mut lens = report.intrinsics;
    lens.date = kept::date();
    let ([fx, fy], [cx, cy]) = (lens.focal_px, lens.centre_px);
    println!("focal length {fx:.1} {fy:.1} px, centre {cx:.1} {cy:.1} px");
    let path = kept::keep(rig, |c| about(rig, c, camera).intrinsics = Some(lens))?;
    written(&path, &format!("{camera}-lens"), &page)
}

/// Leaves a procedure's page in the folder beside the calibration's file, and says where both are.
fn written(calibration: &Path, name: &str, page: &Page) -> anyhow::Result<()> {
    let folder = calibration.with_extension("");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let place = folder.join(format!("{name}.html"));
    page.write(&place)?;
    println!(
        "written to {}; look at {}",
        calibration.display(),
        place.display()
    );
    Ok(())
}

impl ArmArgs {
    fn keep(&self, rig: &Rig, found: ArmCalibration) -> anyhow::Result<()> {
        let who = if self.leader { "leader" } else { "arm" };
        let mut page = Page::new(&format!("Joints of {who} {}", self.arm));
        page.verdict(true, "written to its servos, and read back");
        page.joints(&found);
        let path = kept::keep(rig, |c| c.put_arm(self.leader, found))?;
        written(&path, &format!("{who}-{}-joints", self.arm), &page)
    }
}

/// Asks before a real arm goes about by itself.
fn may_move(rig: &Rig, yes: bool) -> anyhow::Result<()> {
    if yes || rig.device != Device::Real {
        return Ok(());
    }
    println!(
        "the arm goes home, closes its gripper, and then goes about by itself, slowly, within 20 cm; take hands and \
         things away, and keep a hand on the power switch"
    );
    print!("type yes to go on: ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => bail!("the arm was left alone"),
    }
}

fn wait_for_enter() -> Result<(), CalibrateError> {
    match io::stdin().read_line(&mut String::new()) {
        Ok(1..) => Ok(()),
        // Nobody is there any more.
        _ => Err(StationError::Stopped.into()),
    }
}

struct Screen(Show);

impl Screen {
    fn new(title: &str, length: Option<u64>) -> Self {
        Self(Show::new(title, length))
    }

    fn end(self) {
        self.0.end();
    }
}

impl Watch for Screen {
    fn say(&mut self, words: &str) {
        self.0.say(words);
    }

    fn stand(&mut self, views: usize, of: usize, now: &str, image: &Image) {
        self.0.stand(views as u64, || {
            let picture = picture(std::slice::from_ref(image));
            format!("{views} of {of}: {now}\n{picture}")
        });
    }
}

fn draw(board: &Board, out: &PathBuf) -> anyhow::Result<()> {
    /// Of a square; eight for each cell of a marker on the board that is printed if none is named.
    const SQUARE_PX: u32 = 96;
    board.check()?;
    let ending = out.extension().and_then(|ending| ending.to_str());
    let name = || out.display().to_string();
    match ending {
        Some("svg") => fs::write(out, board.svg()).with_context(name)?,
        Some("png") => {
            let picture = board.draw(SQUARE_PX, SQUARE_PX / 2);
            let (width, height) = (picture.width_px(), picture.height_px());
            image::save_buffer(out, picture.pixels(), width, height, image::ColorType::L8)
                .with_context(name)?;
        }
        _ => bail!("{}: name a file that ends in .svg or .png", out.display()),
    }
    let [width, height] = board.size_m().map(|m| 1e3 * m);
    println!(
        "{board} is in {}: {width:.0} x {height:.0} mm; print it at 100 %, and measure a square",
        out.display()
    );
    Ok(())
}

/// What was measured, a line each.
fn words(calibration: &Calibration) -> String {
    let mut lines = Vec::new();
    for (who, arms) in [("arm", &calibration.arms), ("leader", &calibration.leaders)] {
        for arm in arms {
            let joints: Vec<_> = (arm.joints.iter())
                .map(|joint| format!("{} {}", joint.name, joint.zero_counts))
                .collect();
            let (index, date) = (arm.index, &arm.date);
            lines.push(format!(
                "{who} {index}: zero at {} counts ({date})",
                joints.join(", ")
            ));
        }
    }
    for camera in &calibration.cameras {
        let name = &camera.name;
        if let Some(lens) = &camera.intrinsics {
            let ([fx, fy], [cx, cy]) = (lens.focal_px, lens.centre_px);
            lines.push(format!(
                "camera {name}: {}x{}, focal length {fx:.1} {fy:.1} px, centre {cx:.1} {cy:.1}, {:.2} px left over {} \
                 views ({})",
                lens.width_px, lens.height_px, lens.rms_px, lens.views, lens.date
            ));
        }
        if let Some(mounting) = &camera.mounting {
            let at = mounting.frame_from_camera.translation_m.map(|m| 1e3 * m);
            let frame = match mounting.frame {
                Frame::Base => "base",
                Frame::Hand => "hand",
            };
            lines.push(format!(
                "camera {name}: at {:.1} {:.1} {:.1} mm in the {frame} of arm {}, ± {:.1} mm, {:.2}° ({})",
                at[0],
                at[1],
                at[2],
                mounting.arm,
                1e3 * mounting.spread.translation_m,
                mounting.spread.rotation_rad.to_degrees(),
                mounting.date
            ));
        }
        if let Some(latency_ms) = camera.latency_ms {
            lines.push(format!("camera {name}: frames are {latency_ms:.0} ms late"));
        }
    }
    if let Some(bases) = &calibration.bases {
        let at = bases.base0_from_base1.translation_m.map(|m| 1e3 * m);
        lines.push(format!(
            "arm 1 stands at {:.1} {:.1} {:.1} mm from arm 0, ± {:.1} mm ({})",
            at[0],
            at[1],
            at[2],
            1e3 * bases.spread.translation_m,
            bases.date
        ));
    }
    if lines.is_empty() {
        lines.push("nothing yet".to_owned());
    }
    lines.join("\n") + "\n"
}
