//! `hilt calibrate …`.

pub mod args;
mod keep;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{atomic::AtomicBool, mpsc},
};

use anyhow::{Context, bail};
use hilt_calibration::{
    board::Board,
    file,
    joints::lerobot,
    page::{self, Page},
};
use hilt_protocol::{
    GripperCommand, Image,
    calibration::{ArmCalibration, Frame, Intrinsics, Latency},
};
use hilt_runtime::{
    calibrate::{
        CalibrateError, Station, StationError, bases, joints, kept, latency, lens, mounting,
        station,
        views::{self, Tour, Watch},
    },
    rig::{Device, Rig, Take},
};
use hilt_show::Show;

use args::{ArmArgs, Calibrate, TourArgs};
use keep::{about, finish, intrinsics, words};

use crate::runs::picture;

pub fn calibrate(what: Calibrate, stop: &AtomicBool) -> anyhow::Result<()> {
    match what {
        Calibrate::Board { board, out } => draw(&board, &out),
        Calibrate::Joints { arm } => {
            let rig = arm.read()?;
            let date = kept::date();
            let found = joints::calibrate_joints(&rig, arm.arm, arm.leader, &date, stop)?;
            arm.keep(&rig, found)
        }
        Calibrate::Import { arm, file } => {
            let rig = arm.read()?;
            let name = || file.display().to_string();
            let text = fs::read_to_string(&file).with_context(name)?;
            let date = kept::date();
            let found = joints::import_lerobot(&rig, arm.arm, arm.leader, &text, &date);
            arm.keep(&rig, found.with_context(name)?)?;
            println!(
                "which way the joints turn is not in it. Before the arm is started: hilt calibrate look --rig FILE, turn each \
                 joint by hand, and where it goes the other way write direction = \"against\" into the calibration"
            );
            Ok(())
        }
        Calibrate::Look { arm } => joints::look(&arm.rig.read()?, arm.arm, arm.leader, stop),
        Calibrate::Export { arm, file: out } => {
            let rig = arm.rig.read_taking(Take::Nothing)?;
            let calibration = file::read(&kept::place(&rig)?, &rig.name)?;
            let known = match arm.leader {
                true => calibration.leader(arm.arm),
                false => calibration.arm(arm.arm),
            };
            let known =
                known.context("these joints are not calibrated; run: hilt calibrate joints")?;
            file::write_text(&out, &lerobot::export(known))?;
            println!("written to {}", out.display());
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
            keep_anyway,
        } => {
            let rig = rig.read_taking(Take::Joints)?;
            kept::place(&rig)?;
            board.check()?;
            station::check(&rig, &camera, move_arm)?;
            let mut screen = Screen::new("intrinsics", Some(views as u64));
            let shots = match (pictures, move_arm, on) {
                (Some(folder), ..) => views::of_pictures(&folder, &board)?,
                (None, Some(arm), Some(on)) => {
                    may_move(&rig, yes)?;
                    let tour = tour(&rig, &camera, arm, on.into(), board, views);
                    let mut station = Station::open(&rig, stop)?;
                    board_in_hand(&rig, &mut station, &tour, true)?;
                    let shots = lens::tour(&mut station, &tour, &mut screen)?;
                    board_in_hand(&rig, &mut station, &tour, false)?;
                    shots
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
            intrinsics(&rig, &camera, &board, &shots, keep_anyway)
        }
        Calibrate::HandEye {
            tour: args,
            on,
            arm,
        } => {
            let (rig, lens) = args.read([arm])?;
            let tour = tour(&rig, &args.camera, arm, on.into(), args.board, args.views);
            let mut screen = Screen::new("hand-eye", None);
            let mut station = Station::open(&rig, stop)?;
            board_in_hand(&rig, &mut station, &tour, true)?;
            let (found, shots) = mounting::tour(&mut station, &tour, &lens, &mut screen)?;
            board_in_hand(&rig, &mut station, &tour, false)?;
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
            let name = format!("{}-mounting", args.camera);
            let keeps = found.verdict().is_good() || args.keep_anyway;
            finish(&rig, &name, &page, keeps, |c| {
                let camera = about(&rig, c, &args.camera);
                let was = camera.mounting.replace(mounting).is_some();
                // The two were fitted together, and belong together.
                camera.intrinsics = Some(found.lens(&lens));
                was
            })
        }
        Calibrate::Bases { tour: args } => {
            let (rig, lens) = args.read([0, 1])?;
            if rig.mode.arms() != 2 {
                bail!("the rig has one arm; bases are those of two");
            }
            let tour = tour(&rig, &args.camera, 0, Frame::Base, args.board, args.views);
            let mut screen = Screen::new("bases", None);
            let mut station = Station::open(&rig, stop)?;
            let ready = |station: &mut Station, arm: usize, takes: bool| {
                let tour = Tour {
                    arm,
                    ..tour.clone()
                };
                board_in_hand(&rig, station, &tour, takes)
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
            let keeps = found.verdict().is_good() || args.keep_anyway;
            finish(&rig, "bases", &page, keeps, |c| {
                c.bases.replace(found.bases(&kept::date())).is_some()
            })
        }
        Calibrate::Latency {
            rig,
            camera,
            arm,
            yes,
        } => {
            let rig = rig.read_taking(Take::Joints)?;
            kept::place(&rig)?;
            station::check(&rig, &camera, [arm])?;
            may_move(&rig, yes)?;
            let mut screen = Screen::new("latency", None);
            let mut station = Station::open_for_sweep(&rig, stop)?;
            let lowest_m = rig.limits.workspace_min_m[2];
            let (found, swing) =
                latency::measure(&mut station, &camera, arm, lowest_m, &mut screen)?;
            drop(station);
            screen.end();
            println!(
                "frames of camera {camera} are {:.1} ms late, ± {:.1} ms",
                found.delay_ms, found.spread_ms
            );
            let least_ms = rig.least_frame_ms(&camera, found.delay_ms);
            if least_ms > rig.ages.frame_ms {
                println!(
                    "its newest frame is up to {least_ms:.0} ms old, and the rig's ages.frame_ms is {}: give it {:.0} at \
                     least, or the rig will not be read",
                    rig.ages.frame_ms,
                    least_ms.ceil()
                );
            }
            let page = page::latency(&camera, &found, &swing.joint);
            finish(&rig, &format!("{camera}-latency"), &page, true, |c| {
                let latency = Latency {
                    date: kept::date(),
                    delay_ms: found.delay_ms,
                    spread_ms: found.spread_ms,
                };
                about(&rig, c, &camera).latency.replace(latency).is_some()
            })
        }
        Calibrate::Show { rig } => {
            let rig = rig.read_taking(Take::Nothing)?;
            let path = kept::place(&rig)?;
            print!("{}", words(&file::read(&path, &rig.name)?));
            Ok(())
        }
    }
}

impl TourArgs {
    /// The rig, and the camera's lens, when the arms may move.
    fn read(&self, arms: impl IntoIterator<Item = usize>) -> anyhow::Result<(Rig, Intrinsics)> {
        let rig = self.rig.read_taking(Take::Joints)?;
        kept::place(&rig)?;
        self.board.check()?;
        station::check(&rig, &self.camera, arms)?;
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

impl ArmArgs {
    /// The rig as if its joints had not been measured, and its file when it can be written.
    fn read(&self) -> anyhow::Result<Rig> {
        let rig = self.rig.read_taking(Take::Nothing)?;
        // Before the servos are written to: the two must not disagree for want of a disk.
        let place = kept::place(&rig)?;
        file::read_or_new(&place, &rig.name)?;
        file::can_be_written(&place)?;
        Ok(rig)
    }

    fn keep(&self, rig: &Rig, found: ArmCalibration) -> anyhow::Result<()> {
        let who = if self.leader { "leader" } else { "arm" };
        let mut page = Page::new(&format!("Joints of {who} {}", self.arm));
        page.verdict(true, "written to its servos, and read back");
        page.joints(&found);
        finish(
            rig,
            &format!("{who}-{}-joints", self.arm),
            &page,
            true,
            |c| {
                c.put_arm(self.leader, found);
                false
            },
        )
        .context("the servos keep the new calibration and the file does not: calibrate again")
    }
}

/// Opens the hand for a person to put the board in, or to take it out; nothing where the board is not in the
/// hand, or where nobody is there. The arms are kept standing meanwhile.
fn board_in_hand(
    rig: &Rig,
    station: &mut Station,
    tour: &Tour,
    takes: bool,
) -> Result<(), CalibrateError> {
    if rig.device != Device::Real || tour.frame != Frame::Base {
        return Ok(());
    }
    let arm = tour.arm;
    if takes {
        station.grip(arm, GripperCommand::Open)?;
        println!(
            "hold the board between the fingers of arm {arm}, so that it has a hand's breadth of air below it, and press \
             enter: they close"
        );
        enter(station)?;
        station.grip(arm, GripperCommand::Closed)?;
        println!("take your hands away, and press enter: the arm goes about");
        enter(station)?;
    } else {
        println!("hold the board, and press enter: the fingers open");
        enter(station)?;
        station.grip(arm, GripperCommand::Open)?;
    }
    Ok(())
}

/// Waits for the key, the arms standing.
fn enter(station: &mut Station) -> Result<(), CalibrateError> {
    let (told, pressed) = mpsc::channel();
    std::thread::spawn(move || {
        // Whoever waits may have ended meanwhile.
        let _ = told.send(io::stdin().read_line(&mut String::new()));
    });
    let mut key = None;
    station.wait(|| {
        key = pressed.try_recv().ok();
        key.is_some()
    })?;
    match key {
        Some(Ok(1..)) => Ok(()),
        // Nobody is there any more.
        _ => Err(StationError::Stopped.into()),
    }
}

/// Asks before a real arm goes about by itself.
fn may_move(rig: &Rig, yes: bool) -> anyhow::Result<()> {
    if yes || rig.device != Device::Real {
        return Ok(());
    }
    println!(
        "the arms go home and close their grippers, and then the arm goes about by itself, slowly, within 20 cm of there. It \
         keeps its hand above the workspace's lowest height, and knows nothing else that stands round it: take hands \
         and things away, the other arm's too, and keep a hand on the power switch"
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
