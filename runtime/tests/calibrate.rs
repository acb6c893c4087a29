//! What `hilt calibrate` does with a rig, in lockstep on the simulator, which knows the answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use hilt_calibration::{board::Board, file, intrinsics, page};
use hilt_protocol::{
    Image,
    calibration::{Calibration, Frame},
};
use hilt_runtime::{
    calibrate::{
        CalibrateError, Station, StationError, kept, latency, lens, mounting,
        views::{self, Tour, Watch},
    },
    rig::Rig,
};
use hilt_sim::Simulation;
use nalgebra::Isometry3;

/// Counts what is told, and ends it after so many views.
struct Quiet<'a> {
    stood: usize,
    most: usize,
    stop: &'a AtomicBool,
}

impl Watch for Quiet<'_> {
    fn say(&mut self, _: &str) {}

    fn stand(&mut self, _: usize, _: usize, _: &str, _: &Image) {
        self.stood += 1;
        if self.stood >= self.most {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn quiet(stop: &AtomicBool) -> Quiet<'_> {
    Quiet {
        stood: 0,
        most: usize::MAX,
        stop,
    }
}

/// The rig to learn calibration on, in lockstep, its calibration in `folder`.
fn rig(folder: &Path) -> Rig {
    let text = include_str!("../../rigs/so101-calibrate.toml");
    let overrides = ["device=lift-sim", "clock=simulated"].map(str::to_owned);
    Rig::parse("so101-calibrate.toml", folder, text, &overrides).unwrap()
}

fn board() -> Board {
    "charuco:8x6:20:15".parse().unwrap()
}

fn tour(rig: &Rig, views: usize) -> Tour {
    Tour {
        camera: "wrist".into(),
        arm: 0,
        frame: Frame::Hand,
        board: board(),
        views,
        lowest_m: rig.limits.workspace_min_m[2],
        seed: 1,
    }
}

#[test]
fn an_arm_goes_about_and_finds_where_its_camera_is() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let rig = rig(folder.path());
    let error = mounting::lens(&rig, "wrist").unwrap_err().to_string();
    assert!(error.contains("hilt calibrate intrinsics"), "{error}");

    let scene = rig.scene.clone().unwrap();
    let index = scene
        .cameras
        .iter()
        .position(|c| c.name == "wrist")
        .unwrap();
    let truth = scene.cameras[index].intrinsics();
    let (_, hand_from_camera) = Simulation::new(&scene)
        .unwrap()
        .frame_from_camera(index)
        .unwrap();

    let mut station = Station::open(&rig, &stop).unwrap();
    let tour = tour(&rig, 8);
    let (found, shots) = mounting::tour(&mut station, &tour, &truth, &mut quiet(&stop)).unwrap();
    let off = hand_from_camera.inverse() * found.frame_from_camera;
    assert!(off.translation.vector.norm() < 1e-3, "{off}");
    assert!(off.rotation.angle().to_degrees() < 0.1, "{off}");

    // The lens out of the same pictures, without a word of the truth.
    let report = lens::of_shots(&tour.board, &shots).unwrap();
    for i in 0..2 {
        let focal = report.intrinsics.focal_px[i] / truth.focal_px[i];
        assert!((focal - 1.0).abs() < 0.005, "{:?}", report.intrinsics);
    }
    assert!(report.intrinsics.rms_px < 0.3, "{:?}", report.intrinsics);

    // What is kept is there for the next procedure, and for whoever reads the rig.
    let mut lens = report.intrinsics.clone();
    lens.date = kept::date();
    let kept = kept::keep(&rig, true, |c| {
        c.put_lens("wrist", lens.clone());
        false
    });
    assert_eq!(kept.unwrap().gone, Vec::<String>::new());
    let mounting = found.mounting(&kept::date(), 0);
    let put = |c: &mut Calibration| c.camera_mut("wrist").mounting.replace(mounting).is_some();
    let path = kept::keep(&rig, true, put).map(|kept| kept.path);
    let calibration = file::read(&path.unwrap(), "so101-calibrate").unwrap();
    let wrist = calibration.camera("wrist").unwrap();
    assert_eq!(wrist.intrinsics.as_ref(), Some(&lens));
    let kept: Isometry3<f64> = wrist.mounting.as_ref().unwrap().frame_from_camera.into();
    assert!(
        (kept.inverse() * found.frame_from_camera)
            .translation
            .vector
            .norm()
            < 1e-9
    );
    let again = self::rig(folder.path());
    assert_eq!(mounting::lens(&again, "wrist").unwrap(), lens);

    // Another lens takes with it what was measured through this one.
    let kept = kept::keep(&rig, true, |c| {
        c.put_lens("wrist", lens.clone());
        false
    });
    assert_eq!(kept.unwrap().gone, ["where camera wrist is fixed"]);

    // Its page shows every view.
    let (with_hand, pictures) = (views::with_hand(&shots), views::pictures(&shots));
    let page = page::hand_eye(&found, &truth, &tour.board, &with_hand, &pictures).html();
    assert!(page.matches("data:image/png;base64,").count() >= pictures.len());
}

#[test]
fn who_ends_it_leaves_everything_as_it_was() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let rig = rig(folder.path());
    let mut station = Station::open(&rig, &stop).unwrap();
    let mut watch = Quiet {
        most: 2,
        ..quiet(&stop)
    };
    let ended = lens::tour(&mut station, &tour(&rig, 8), &mut watch).unwrap_err();
    let stopped = matches!(ended, CalibrateError::Station(StationError::Stopped));
    assert!(stopped && watch.stood == 2, "{ended}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_board_of_another_size_is_named_with_what_was_tried() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let rig = rig(folder.path());
    let mut station = Station::open(&rig, &stop).unwrap();
    let other = Tour {
        board: "charuco:7x5:20:15".parse().unwrap(),
        ..tour(&rig, 8)
    };
    let error = lens::tour(&mut station, &other, &mut quiet(&stop))
        .unwrap_err()
        .to_string();
    assert!(error.contains("the board is seen in none of"), "{error}");
}

#[test]
fn a_joint_swings_and_shows_how_late_a_camera_is() {
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let mut rig = rig(folder.path());
    // One camera, small: it draws some hundred frames.
    let scene = rig.scene.as_mut().unwrap();
    scene.cameras.retain(|camera| camera.name == "front");
    let camera = &mut scene.cameras[0];
    (camera.width, camera.height) = (160, 120);
    let lens = camera.lens.as_mut().unwrap();
    lens.focal_px = lens.focal_px.map(|px| px / 4.0);
    lens.centre_px = lens.centre_px.map(|px| px / 4.0);
    let truth_ms = camera.latency_ms;
    let mut station = Station::open_for_sweep(&rig, &stop).unwrap();
    let (found, swing) =
        latency::measure(&mut station, "front", 0, 0.0, &mut quiet(&stop)).unwrap();
    assert!(
        (found.delay_ms - truth_ms).abs() < 2.0,
        "{} ms",
        found.delay_ms
    );
    assert!(swing.frames.len() > 100, "{}", swing.frames.len());
}

fn pictures(folder: &Path, of: &Board, count: usize) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    for number in 0..count {
        let picture = of.draw(40, 30);
        let path = folder.join(format!("{number:02}.png"));
        let (width, height) = (picture.width_px(), picture.height_px());
        image::save_buffer(path, picture.pixels(), width, height, image::ColorType::L8).unwrap();
    }
    folder.to_owned()
}

#[test]
fn pictures_in_a_folder_are_read_and_what_is_wrong_with_them_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let board = board();
    let folder = pictures(&dir.path().join("some"), &board, 3);
    let shots = views::of_pictures(&folder, &board).unwrap();
    assert_eq!(views::seen(&shots).len(), 3);
    // A person has shown it from nowhere else yet.
    assert!(!intrinsics::missing(&board, &views::seen(&shots)).is_empty());
    let error = lens::of_shots(&board, &shots).unwrap_err().to_string();
    assert!(error.contains("3 of 3 views are usable"), "{error}");
    let other = Board::checkerboard(12, 9, 0.02);
    let shots = views::of_pictures(&folder, &other).unwrap();
    let error = lens::of_shots(&other, &shots).unwrap_err().to_string();
    assert!(error.contains("in none of 3 pictures"), "{error}");
    std::fs::write(folder.join("03.png"), b"no picture").unwrap();
    let error = views::of_pictures(&folder, &board).unwrap_err().to_string();
    assert!(error.contains("03.png"), "{error}");
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = views::of_pictures(&empty, &board).unwrap_err().to_string();
    assert!(error.contains("no PNG file"), "{error}");
    let none = views::of_pictures(&dir.path().join("none"), &board);
    assert!(none.unwrap_err().to_string().contains("none: "));
}

#[test]
fn what_was_measured_of_another_rig_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("so101-calibrate.calibration.toml");
    let rig = rig(folder.path());
    file::write(&path, &Calibration::of_rig("koch")).unwrap();
    let error = kept::keep(&rig, true, |_| false).unwrap_err().to_string();
    assert!(error.contains("of rig `koch`"), "{error}");
    assert_eq!(
        file::read(&path, "koch").unwrap(),
        Calibration::of_rig("koch")
    );
}
