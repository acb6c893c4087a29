//! What a procedure leaves: its page, and what it found in the rig's calibration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use hilt_calibration::{
    board::Board,
    page::{self, Page},
};
use hilt_protocol::calibration::{Calibration, CameraCalibration, Frame};
use hilt_runtime::{
    calibrate::{
        kept, lens,
        views::{self, Shot},
    },
    rig::Rig,
};

/// The place for what is measured of a camera; what was measured of another device there is gone.
pub fn about<'a>(
    rig: &Rig,
    calibration: &'a mut Calibration,
    camera: &str,
) -> &'a mut CameraCalibration {
    let settings = rig.cameras.iter().find(|other| other.name == camera);
    let v4l2 = settings.and_then(|camera| camera.v4l2.as_ref());
    let device = v4l2.map(|v4l2| v4l2.device.display().to_string());
    calibration.camera_of_device(camera, device)
}

pub fn intrinsics(
    rig: &Rig,
    camera: &str,
    board: &Board,
    shots: &[Shot],
    keep_anyway: bool,
) -> anyhow::Result<()> {
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
    let settings = rig.cameras.iter().find(|other| other.name == camera);
    if let Some(v4l2) = settings.and_then(|camera| camera.v4l2.as_ref())
        && (lens.width_px, lens.height_px) != (v4l2.width, v4l2.height)
    {
        bail!(
            "the pictures are {}x{} and the rig opens the camera at {}x{}: take pictures of that size",
            lens.width_px,
            lens.height_px,
            v4l2.width,
            v4l2.height
        );
    }
    let keeps = report.verdict.is_good() || keep_anyway;
    finish(rig, &format!("{camera}-lens"), &page, keeps, |c| {
        let was = about(rig, c, camera).intrinsics.is_some();
        c.put_lens(camera, lens);
        was
    })
}

/// Leaves the page, keeps what was found as [`kept::keep`] does, and says what became of it.
pub fn finish(
    rig: &Rig,
    name: &str,
    page: &Page,
    is_good: bool,
    put: impl FnOnce(&mut Calibration) -> bool,
) -> anyhow::Result<()> {
    let page = leave(&kept::place(rig)?, name, page)?;
    let look = format!("look at {}", page.display());
    let kept = kept::keep(rig, is_good, put).with_context(|| look.clone())?;
    for gone in &kept.gone {
        println!("{gone} rested on what was, and is to be measured again");
    }
    println!("written to {}; {look}", kept.path.display());
    Ok(())
}

/// Leaves a procedure's page in the folder beside the calibration's file.
fn leave(calibration: &Path, name: &str, page: &Page) -> anyhow::Result<PathBuf> {
    let folder = calibration.with_extension("");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let place = folder.join(format!("{name}.html"));
    page.write(&place)?;
    Ok(place)
}

/// What was measured, a line each.
pub fn words(calibration: &Calibration) -> String {
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
        if let Some(latency) = &camera.latency {
            lines.push(format!(
                "camera {name}: frames are {:.0} ms late, ± {:.1} ms ({})",
                latency.delay_ms, latency.spread_ms, latency.date
            ));
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
