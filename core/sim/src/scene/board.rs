//! A flat board with a picture: what cameras are calibrated with.

use std::fmt::Write;

use nalgebra::{Isometry3, Vector3};
use serde::{Deserialize, Serialize};

use super::{Mount, Problem, pose_of};

/// Behind the picture is the paper, so far, metres: enough to be told from it by the depth buffer.
const BEHIND_M: f64 = 1e-4;
/// Half the paper's thickness, metres.
const HALF_PAPER_M: f64 = 5e-4;
/// About so many texels has the longer side of the picture: its edges are one texel wide.
const TEXELS: usize = 1024;
/// White texels around the picture: MuJoCo repeats textures, and so mixes their opposite edges.
const EDGE: usize = 4;

/// A board in the scene. It stands or rides along; nothing collides with it.
///
/// Its frame is that of a calibration board: the origin at the picture's top left, x to the right along
/// its rows, y down, z into the board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneBoard {
    /// The picture's rows, from the top: `#` is black, `.` is white.
    pub cells: Vec<String>,
    /// Width and height of the picture, metres.
    pub size_m: [f64; 2],
    /// White paper around it, metres.
    #[serde(default)]
    pub margin_m: f64,
    /// What it is fixed to.
    #[serde(default)]
    pub mount: Mount,
    /// Where the middle of the picture is, metres in the mount's frame.
    pub position_m: [f64; 3],
    /// Where the picture looks to: a direction in the mount's frame.
    pub facing: [f64; 3],
    /// Where its top is: a direction in the mount's frame, as near to it as `facing` lets it be.
    pub up: [f64; 3],
}

impl SceneBoard {
    /// Pose of the board's frame in its mount's; `None` where the scene is refused.
    pub(crate) fn mount_from_board(&self) -> Option<Isometry3<f64>> {
        let (right, up) = self.axes()?;
        let [width, height] = self.size_m;
        let middle = Vector3::from(self.position_m);
        let corner = middle - right * (width / 2.0) + up * (height / 2.0);
        Some(pose_of(corner, right, -up))
    }

    /// Cells in a row and in a column.
    fn cells(&self) -> [usize; 2] {
        let columns = self.cells.first().map_or(0, |row| row.len());
        [columns, self.cells.len()]
    }

    /// Texels of a cell's side: a multiple of four, so that the first half sizes are exact.
    fn texels_per_cell(&self) -> usize {
        let [columns, rows] = self.cells();
        (TEXELS / columns.max(rows).max(1)).next_multiple_of(4)
    }

    /// Columns and rows of its texture.
    fn texels(&self) -> [usize; 2] {
        (self.cells()).map(|cells| cells * self.texels_per_cell() + 2 * EDGE)
    }

    /// Draws its texture: three bytes a texel, the picture's top row first.
    pub(crate) fn draw(&self, texture: &mut [u8]) {
        let ([columns, _], side) = (self.texels(), self.texels_per_cell());
        for (i, texel) in texture.chunks_exact_mut(3).enumerate() {
            let cell = |texel: usize| Some(texel.checked_sub(EDGE)? / side);
            let row = cell(i / columns).and_then(|row| self.cells.get(row));
            let cell = cell(i % columns).and_then(|column| row?.as_bytes().get(column));
            texel.fill(if cell == Some(&b'#') { 0 } else { 255 });
        }
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let [columns, rows] = self.cells();
        let sides = 1..=TEXELS / 4;
        if !sides.contains(&columns) || !sides.contains(&rows) {
            let problem =
                format!("are {columns} x {rows}; a picture has 1 to 256 of them along each side");
            return Err(("cells", problem));
        }
        for (i, row) in self.cells.iter().enumerate() {
            if row.len() != columns || !row.bytes().all(|cell| cell == b'#' || cell == b'.') {
                let problem = format!(
                    "has row {i} {row:?}; each row is {columns} of `#`, black, and `.`, white"
                );
                return Err(("cells", problem));
            }
        }
        if !self.size_m.iter().all(|side| (1e-3..=5.0).contains(side)) {
            let problem = format!("is {:?}; each must be 0.001 to 5", self.size_m);
            return Err(("size_m", problem));
        }
        if !(0.0..=1.0).contains(&self.margin_m) {
            let problem = format!("is {}; it must be 0 to 1", self.margin_m);
            return Err(("margin_m", problem));
        }
        if !self.position_m.iter().all(|v| v.is_finite()) {
            let problem = format!("is {:?}; all must be finite", self.position_m);
            return Err(("position_m", problem));
        }
        if self.axes().is_none() {
            let problem = "and up must be two directions, finite and not along each other";
            return Err(("facing", problem.into()));
        }
        Ok(())
    }

    /// Its texture, which is drawn when the model stands, and its material.
    pub(super) fn write_assets(&self, index: usize, xml: &mut String) {
        let [columns, rows] = self.texels();
        // Gray rather than white, and with some light of its own: no lamp washes it out, and it is seen
        // from each side. Writing to a String cannot fail.
        let _ = write!(
            xml,
            r#"
    <texture name="board{index}" type="2d" builtin="flat" width="{columns}" height="{rows}"/>
    <material name="board{index}" texture="board{index}" rgba=".62 .62 .62 1" emission=".25" specular="0"/>
    <material name="paper{index}" rgba=".62 .62 .62 1" emission=".25" specular="0"/>"#
        );
    }

    pub(super) fn write_mjcf(&self, index: usize, xml: &mut String) {
        let Some((right, up)) = self.axes() else {
            return;
        };
        let facing = right.cross(&up);
        let (cells, texels) = (self.cells(), self.texels());
        let inner = cells.map(|cells| cells * self.texels_per_cell());
        let with_edge = [0, 1].map(|i| self.size_m[i] * texels[i] as f64 / inner[i] as f64);
        let with_margin = self.size_m.map(|side| side + 2.0 * self.margin_m);
        let mut sheet = |material: &str, [width, height]: [f64; 2], behind: f64| {
            let at = Vector3::from(self.position_m) - facing * (behind + HALF_PAPER_M);
            let _ = writeln!(
                xml,
                r#"<geom type="box" size="{} {} {HALF_PAPER_M}" pos="{} {} {}" xyaxes="{} {} {} {} {} {}" material="{material}{index}" mass="0" contype="0" conaffinity="0"/>"#,
                width / 2.0,
                height / 2.0,
                at.x,
                at.y,
                at.z,
                right.x,
                right.y,
                right.z,
                up.x,
                up.y,
                up.z
            );
        };
        sheet("board", with_edge, 0.0);
        // The back of the first box shows the picture too; the paper covers it.
        sheet("paper", with_margin, BEHIND_M);
    }

    /// Right and up of its picture, in its mount's frame.
    fn axes(&self) -> Option<(Vector3<f64>, Vector3<f64>)> {
        let facing = Vector3::from(self.facing).try_normalize(1e-6)?;
        let right = Vector3::from(self.up)
            .try_normalize(1e-6)?
            .cross(&facing)
            .try_normalize(1e-3)?;
        let up = facing.cross(&right);
        up.iter().all(|v| v.is_finite()).then_some((right, up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> SceneBoard {
        SceneBoard {
            cells: vec!["#.#".into(), ".#.".into()],
            size_m: [0.3, 0.2],
            margin_m: 0.01,
            mount: Mount::World,
            position_m: [0.4, 0.0, 0.0],
            facing: [0.0, 0.0, 2.0],
            up: [1.0, 0.0, 0.0],
        }
    }

    #[test]
    fn its_frame_is_a_calibration_boards() {
        let pose = board().mount_from_board().unwrap();
        // On the table, its top away from the arm: its top left is far and to the robot's left.
        let near = |a: Vector3<f64>, b: [f64; 3]| (a - Vector3::from(b)).norm() < 1e-12;
        assert!(near(pose.translation.vector, [0.5, 0.15, 0.0]), "{pose}");
        assert!(near(pose * Vector3::x(), [0.0, -1.0, 0.0]));
        assert!(near(pose * Vector3::y(), [-1.0, 0.0, 0.0]));
        assert!(near(pose * Vector3::z(), [0.0, 0.0, -1.0]));
    }

    #[test]
    fn its_texture_is_its_cells() {
        let board = board();
        let [columns, rows] = board.texels();
        let side = (columns - 2 * EDGE) / 3;
        assert_eq!([columns, rows], [3 * side + 8, 2 * side + 8]);
        let mut texture = vec![7; columns * rows * 3];
        board.draw(&mut texture);
        for (row, cells) in board.cells.iter().enumerate() {
            for (column, cell) in cells.bytes().enumerate() {
                for (x, y) in [(0, 0), (side - 1, side - 1), (side / 2, 0)] {
                    let at = (EDGE + row * side + y) * columns + EDGE + column * side + x;
                    let wanted = if cell == b'#' { 0 } else { 255 };
                    assert_eq!(texture[3 * at..3 * at + 3], [wanted; 3]);
                }
            }
        }
    }

    #[test]
    fn impossible_boards_name_their_field() {
        let problem = |change: fn(&mut SceneBoard)| {
            let mut board = board();
            change(&mut board);
            board.check().unwrap_err().0
        };
        board().check().unwrap();
        assert_eq!(problem(|b| b.cells.clear()), "cells");
        assert_eq!(problem(|b| b.cells[1] = "#.".into()), "cells");
        assert_eq!(problem(|b| b.cells[1] = "# #".into()), "cells");
        assert_eq!(problem(|b| b.cells[0] = "#".repeat(300)), "cells");
        assert_eq!(problem(|b| b.size_m[1] = 0.0), "size_m");
        assert_eq!(problem(|b| b.margin_m = f64::NAN), "margin_m");
        assert_eq!(problem(|b| b.position_m[2] = f64::NAN), "position_m");
        assert_eq!(problem(|b| b.up = [0.0, 0.0, -3.0]), "facing");
        assert_eq!(problem(|b| b.facing = [0.0; 3]), "facing");
        assert_eq!(problem(|b| b.up[0] = f64::INFINITY), "facing");
    }
}
