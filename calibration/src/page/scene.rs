//! Frames drawn in space, seen from a few sides.

use std::fmt::Write;

use hilt_protocol::calibration::{Frame, Intrinsics};
use hilt_show::html::escape;
use nalgebra::{Isometry3, Point3, Vector3};

use super::Page;
use crate::{
    board::Board,
    hand_eye::{HandEye, View},
};

/// What stands somewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Thing {
    /// Three axes of this length, metres: x red, y green, z blue.
    Axes(f64),
    /// What a camera sees up to this distance, metres, with this half width and height at 1 m.
    Camera {
        /// How far it is drawn.
        far_m: f64,
        /// Half its picture at a distance of 1.
        half: [f64; 2],
    },
    /// A flat board of this width and height, metres.
    Board([f64; 2]),
}

/// Things in one frame.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    things: Vec<Placed>,
}

#[derive(Clone, Debug)]
struct Placed {
    pose: Isometry3<f64>,
    thing: Thing,
    name: String,
    /// One of many, drawn lightly.
    light: bool,
    left_out: bool,
}

impl Scene {
    /// Puts a thing at a pose in the scene's frame, with a name beside it.
    pub fn put(&mut self, pose: &Isometry3<f64>, thing: Thing, name: &str) {
        self.place(pose, thing, name, false, false);
    }

    fn place(
        &mut self,
        pose: &Isometry3<f64>,
        thing: Thing,
        name: &str,
        light: bool,
        left_out: bool,
    ) {
        self.things.push(Placed {
            pose: *pose,
            thing,
            name: name.to_owned(),
            light,
            left_out,
        });
    }

    /// Puts all of another scene, whose frame is at a pose in this one.
    pub fn add(&mut self, pose: &Isometry3<f64>, other: &Scene) {
        let moved = other.things.iter().cloned().map(|mut thing| {
            thing.pose = pose * thing.pose;
            thing
        });
        self.things.extend(moved);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        for thing in self.things.iter_mut().filter(|thing| thing.name == from) {
            thing.name = to.to_owned();
        }
    }

    /// Base, hand at each view, camera and board, in the base's frame.
    pub fn hand_eye(
        result: &HandEye,
        intrinsics: &Intrinsics,
        board: &Board,
        views: &[View],
    ) -> Self {
        let mut scene = Self::default();
        let half = [0, 1].map(|i| {
            let size = [intrinsics.width_px, intrinsics.height_px][i];
            f64::from(size) / 2.0 / intrinsics.focal_px[i]
        });
        let camera = |far_m: f64| Thing::Camera { far_m, half };
        scene.put(&Isometry3::identity(), Thing::Axes(0.08), "base");
        let (x, y) = (&result.frame_from_camera, &result.other_from_board);
        for (number, (view, found)) in (1..).zip(views.iter().zip(&result.views)) {
            let (hand, out) = (&view.base_from_hand, found.left_out.is_some());
            scene.place(hand, Thing::Axes(0.025), &number.to_string(), true, out);
            match result.frame {
                Frame::Hand => scene.place(&(hand * x), camera(0.03), "", true, out),
                Frame::Base => {
                    scene.place(&(hand * y), Thing::Board(board.size_m()), "", true, out)
                }
            }
        }
        match result.frame {
            Frame::Hand => scene.put(y, Thing::Board(board.size_m()), "board"),
            Frame::Base => scene.put(x, camera(0.1), "camera"),
        }
        scene
    }
}

/// Line, colour, and whether it is filled.
struct Stroke {
    points: Vec<Point3<f64>>,
    colour: &'static str,
    filled: bool,
    light: bool,
}

fn strokes(placed: &Placed) -> Vec<Stroke> {
    let at = |x: f64, y: f64, z: f64| placed.pose * Point3::new(x, y, z);
    let origin = at(0.0, 0.0, 0.0);
    let colour = |colour| if placed.left_out { "#e08070" } else { colour };
    let stroke = |points: Vec<Point3<f64>>, colour, filled| Stroke {
        points,
        colour,
        filled,
        light: placed.light,
    };
    match placed.thing {
        Thing::Axes(length) => vec![
            stroke(vec![origin, at(length, 0.0, 0.0)], "#d03030", false),
            stroke(vec![origin, at(0.0, length, 0.0)], "#209030", false),
            stroke(vec![origin, at(0.0, 0.0, length)], "#2050c8", false),
        ],
        Thing::Camera { far_m, half } => {
            let corner = |x: f64, y: f64| at(x * half[0] * far_m, y * half[1] * far_m, far_m);
            let far = [
                corner(-1.0, -1.0),
                corner(1.0, -1.0),
                corner(1.0, 1.0),
                corner(-1.0, 1.0),
            ];
            let mut strokes = vec![stroke(far.to_vec(), colour("#7040a0"), true)];
            let rays = far.map(|corner| stroke(vec![origin, corner], colour("#7040a0"), false));
            strokes.extend(rays);
            strokes
        }
        Thing::Board([width, height]) => vec![
            stroke(
                vec![
                    at(0.0, 0.0, 0.0),
                    at(width, 0.0, 0.0),
                    at(width, height, 0.0),
                    at(0.0, height, 0.0),
                ],
                colour("#444"),
                true,
            ),
            stroke(vec![origin, at(0.3 * width, 0.0, 0.0)], "#d03030", false),
            stroke(vec![origin, at(0.0, 0.3 * width, 0.0)], "#209030", false),
        ],
    }
}

/// From where it is looked at: what is to the right in the picture, and what is up.
const SIDES: [(&str, [f64; 3], [f64; 3]); 3] = [
    (
        "from the front, aslant",
        [-0.5, 0.866, 0.0],
        [-0.35, -0.2, 0.915],
    ),
    ("from above", [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]),
    ("from the side", [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
];
const SIZE: f64 = 330.0;

impl Page {
    /// A scene, from three sides.
    pub fn scene(&mut self, scene: &Scene) {
        for (name, right, up) in SIDES {
            let svg = drawn(scene, Vector3::from(right), Vector3::from(up));
            self.push(format_args!(
                "<figure>{svg}<figcaption>{}</figcaption></figure>\n",
                escape(name)
            ));
        }
        self.note(
            "x red, y green, z blue; numbers are the hand at each view; a grey square is 10 cm.",
        );
    }
}

fn drawn(scene: &Scene, right: Vector3<f64>, up: Vector3<f64>) -> String {
    let flat = |point: &Point3<f64>| [point.coords.dot(&right), -point.coords.dot(&up)];
    let all: Vec<Stroke> = scene.things.iter().flat_map(strokes).collect();
    let corners = all.iter().flat_map(|stroke| stroke.points.iter().map(flat));
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for corner in corners.filter(|corner| corner.iter().all(|at| at.is_finite())) {
        for i in 0..2 {
            low[i] = low[i].min(corner[i]);
            high[i] = high[i].max(corner[i]);
        }
    }
    let span = (high[0] - low[0]).max(high[1] - low[1]).max(0.1);
    let scale = (SIZE - 40.0) / span;
    let middle = [0, 1].map(|i| (low[i] + high[i]) / 2.0);
    let to = |at: [f64; 2]| [0, 1].map(|i| SIZE / 2.0 + (at[i] - middle[i]) * scale);
    let mut svg = format!("<svg width=\"{SIZE}\" height=\"{SIZE}\" font-size=\"10\">");
    grid(&mut svg, middle, scale);
    for stroke in &all {
        let points = stroke.points.iter().map(|point| to(flat(point)));
        let mut line = String::new();
        for [x, y] in points.filter(|point| point.iter().all(|at| at.is_finite())) {
            let _ = write!(line, "{x:.1},{y:.1} ");
        }
        let (tag, fill) = match stroke.filled {
            true => ("polygon", stroke.colour),
            false => ("polyline", "none"),
        };
        let (width, opacity) = if stroke.light { (1.0, 0.6) } else { (2.0, 1.0) };
        let _ = write!(
            svg,
            "<{tag} points=\"{line}\" fill=\"{fill}\" fill-opacity=\"0.06\" stroke=\"{}\" stroke-width=\"{width}\" stroke-opacity=\"{opacity}\"/>",
            stroke.colour
        );
    }
    for thing in scene.things.iter().filter(|thing| !thing.name.is_empty()) {
        let [x, y] = to(flat(&thing.pose.translation.vector.into()));
        let size = if thing.light { 8 } else { 12 };
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{size}\">{}</text>",
            x + 4.0,
            y - 3.0,
            escape(&thing.name)
        );
    }
    svg + "</svg>"
}

/// Squares of 10 cm.
fn grid(svg: &mut String, middle: [f64; 2], scale: f64) {
    const STEP_M: f64 = 0.1;
    let half = SIZE / 2.0 / scale;
    for (axis, middle) in middle.into_iter().enumerate() {
        let mut at = ((middle - half) / STEP_M).ceil() * STEP_M;
        let mut lines = 0;
        while at <= middle + half && lines < 60 {
            let p = SIZE / 2.0 + (at - middle) * scale;
            let _ = match axis {
                0 => write!(svg, "<path d=\"M{p:.1} 0V{SIZE}\" stroke=\"#eee\"/>"),
                _ => write!(svg, "<path d=\"M0 {p:.1}H{SIZE}\" stroke=\"#eee\"/>"),
            };
            at += STEP_M;
            lines += 1;
        }
    }
}
