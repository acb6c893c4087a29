//! `hilt calibrate …`.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use hilt_calibration::board::Board;
use hilt_protocol::calibration::{Calibration, Frame};

use super::args::RigArgs;

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
    /// Show what was measured of a rig, and when.
    Show {
        #[command(flatten)]
        rig: RigArgs,
    },
}

pub fn calibrate(what: Calibrate) -> anyhow::Result<()> {
    match what {
        Calibrate::Board { board, out } => draw(&board, &out),
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
