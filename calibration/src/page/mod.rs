//! The page that a procedure leaves: one HTML file that holds all it shows, to be opened anywhere and
//! kept beside the calibration.
//!
//! A [`Page`] begins with the verdict; sections are added in the order in which they are to be read:
//! [`Page::views`] for what a camera saw, [`Page::scene`] for where things stand, [`Page::signals`] for
//! a delay, [`Page::joints`] for an arm's servos. [`intrinsics`], [`hand_eye`], [`bases`] and
//! [`latency`] put together whole pages.

mod joints;
mod scene;
mod signals;
mod views;

#[cfg(test)]
mod tests;

use std::{fmt::Write, path::Path};

use hilt_protocol::calibration::{Frame, Intrinsics, Spread};
use hilt_show::html::{base64, escape};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

pub use scene::{Scene, Thing};
pub use views::ShownView;

use crate::{
    bases::BaseToBase,
    board::{Board, BoardView},
    file::{self, FileError},
    hand_eye::{HandEye, Known, View},
    intrinsics::IntrinsicsReport,
    latency::{JointSample, Latency},
    picture::Gray,
};

/// A page in the making.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    body: String,
}

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em;margin-bottom:.4em}h2{font-size:1.15em;margin:1.6em 0 .4em}\
.verdict{padding:.7em 1em;border-left:6px solid;font-size:1.1em;margin:1em 0}\
.good{background:#e9f6ec;border-color:#28a03c}.bad{background:#fdf0e6;border-color:#d07010}\
table{border-collapse:collapse}th,td{text-align:left;padding:.2em .9em .2em 0;vertical-align:top;font-weight:normal}\
th{color:#666}figure{display:inline-block;margin:0 .8em 1em 0;vertical-align:top}\
figcaption{font-size:.85em;color:#555;max-width:330px}.out{color:#b03020}svg{background:#fff}\
svg text{font-family:sans-serif;fill:#555}p.note{color:#666;font-size:.9em;margin:.2em 0 .8em}";

impl Page {
    /// With nothing but its title.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            body: String::new(),
        }
    }

    /// What came out, in a line.
    pub fn verdict(&mut self, good: bool, text: &str) {
        let class = if good { "good" } else { "bad" };
        self.push(format_args!(
            "<p class=\"verdict {class}\">{}</p>\n",
            escape(text)
        ));
    }

    /// A table of what it is called and what it is.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        self.push(format_args!("<table>"));
        for (name, value) in facts {
            self.push(format_args!(
                "<tr><th>{}</th><td>{}</td></tr>\n",
                escape(name),
                escape(value)
            ));
        }
        self.push(format_args!("</table>\n"));
    }

    fn heading(&mut self, text: &str) {
        self.push(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    fn note(&mut self, text: &str) {
        self.push(format_args!("<p class=\"note\">{}</p>\n", escape(text)));
    }

    fn push(&mut self, text: std::fmt::Arguments) {
        // A String takes all that it is given.
        let _ = self.body.write_fmt(text);
    }

    /// The whole file.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{}</body></html>\n",
            self.body
        )
    }

    /// Writes it in the place of what was there, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        file::write_text(path, &self.html())
    }
}

/// The page of a lens. `pictures` are the views', where they were kept.
pub fn intrinsics(report: &IntrinsicsReport, views: &[BoardView], pictures: &[&Gray]) -> Page {
    let mut page = Page::new("Camera: lens");
    page.verdict(report.verdict.is_good(), &report.verdict.to_string());
    let (lens, deviation) = (&report.intrinsics, &report.deviation);
    let pair =
        |[a, b]: [f64; 2], [da, db]: [f64; 2]| format!("{a:.2} ± {da:.2}, {b:.2} ± {db:.2} px");
    let names = ["k1", "k2", "p1", "p2", "k3"]
        .into_iter()
        .zip(lens.distortion);
    let each = names.zip(deviation.distortion);
    let each = each.map(|((name, value), deviation)| format!("{name} {value:.4} ± {deviation:.4}"));
    let size_px = [lens.width_px, lens.height_px];
    page.facts(&[
        (
            "picture",
            format!("{} x {} px", lens.width_px, lens.height_px),
        ),
        ("focal length", pair(lens.focal_px, deviation.focal_px)),
        ("centre", pair(lens.centre_px, deviation.centre_px)),
        ("distortion", each.collect::<Vec<_>>().join(", ")),
        (
            "left between seen and predicted",
            format!("{:.3} px", lens.rms_px),
        ),
        ("views used", format!("{} of {}", lens.views, views.len())),
    ]);
    let shown = views.iter().zip(&report.views).enumerate();
    let shown = shown.map(|(i, (view, report))| {
        let seen: Vec<[f64; 2]> = view.corners.iter().map(|corner| corner.pixel).collect();
        let away = seen.iter().zip(&report.residuals_px);
        ShownView {
            picture: pictures.get(i).copied(),
            size_px,
            predicted: away
                .map(|(at, off)| [at[0] - off[0], at[1] - off[1]])
                .collect(),
            rms_px: match report.residuals_px.is_empty() {
                true => f64::NAN,
                false => report.rms_px,
            },
            seen,
            left_out: report.left_out.map(|why| why.to_string()),
            note: None,
        }
    });
    let shown: Vec<ShownView> = shown.collect();
    page.coverage(size_px, &shown);
    page.views(&shown);
    page
}

/// The page of a camera's mounting. `pictures` are the views', where they were kept.
pub fn hand_eye(
    result: &HandEye,
    intrinsics: &Intrinsics,
    board: &Board,
    views: &[View],
    pictures: &[&Gray],
) -> Page {
    let mut page = Page::new(match result.frame {
        Frame::Hand => "Camera on the hand",
        Frame::Base => "Camera beside the arm",
    });
    let verdict = result.verdict();
    page.verdict(verdict.is_good(), &verdict.to_string());
    let [x, y, z] = result.frame_from_camera.translation.vector.into();
    let turned = result.turned_rad.map(|turned| turned.to_degrees());
    page.facts(&[
        (
            "place",
            format!("{:.1}, {:.1}, {:.1} mm", x * 1e3, y * 1e3, z * 1e3),
        ),
        (
            "known to (one standard deviation)",
            Known(&result.spread).to_string(),
        ),
        ("the arm's own error in a view", arm_error(&result.arm)),
        (
            "focal length that fits, over the lens's",
            format!("{:.4}", result.focal()),
        ),
        ("noise of a corner", format!("{:.2} px", result.corner_px)),
        (
            "left between seen and predicted",
            format!("{:.2} px", result.rms_px),
        ),
        (
            "views used",
            format!("{} of {}", result.used(), views.len()),
        ),
        (
            "turned between two views, about three axes",
            format!("{:.0}°, {:.0}°, {:.0}°", turned[0], turned[1], turned[2]),
        ),
    ]);
    page.heading("Where things stand");
    page.scene(&Scene::hand_eye(result, intrinsics, board, views));
    page.views(&shown_views(result, views, pictures));
    page
}

/// Less than could be told from the corners' noise.
fn is_none(off: &Spread) -> bool {
    off.translation_m < 1e-5 && off.rotation_rad < 1e-4
}

fn arm_error(arm: &Spread) -> String {
    match is_none(arm) {
        true => "less than the corners' noise".into(),
        false => Known(arm).to_string(),
    }
}

fn shown_views<'a>(
    result: &'a HandEye,
    views: &'a [View],
    pictures: &[&'a Gray],
) -> Vec<ShownView<'a>> {
    let views = views.iter().zip(&result.views).enumerate();
    let views = views.map(|(i, (view, result))| ShownView {
        picture: pictures.get(i).copied(),
        size_px: [view.seen.width_px, view.seen.height_px],
        seen: view
            .seen
            .corners
            .iter()
            .map(|corner| corner.pixel)
            .collect(),
        predicted: result.predicted.clone(),
        rms_px: result.rms_px,
        left_out: result.left_out.map(|why| why.to_string()),
        note: (result.off.as_ref())
            .filter(|off| !is_none(off))
            .map(|off| format!("hand off by {}", Known(off))),
    });
    views.collect()
}

/// The page of two arms' bases: what each arm's views say, and where both stand.
pub fn bases(
    result: &BaseToBase,
    intrinsics: &Intrinsics,
    boards: [&Board; 2],
    views: [&[View]; 2],
    pictures: [&[&Gray]; 2],
) -> Page {
    let mut page = Page::new("Base to base");
    let verdict = result.verdict();
    page.verdict(verdict.is_good(), &verdict.to_string());
    let [x, y, z] = result.base0_from_base1.translation.vector.into();
    page.facts(&[
        (
            "arm 1's base, from arm 0's",
            format!("{:.1}, {:.1}, {:.1} mm", x * 1e3, y * 1e3, z * 1e3),
        ),
        (
            "known to (one standard deviation)",
            Known(&result.spread).to_string(),
        ),
    ]);
    page.heading("Where things stand");
    let [mut scene, other] = [0, 1].map(|arm| {
        let mut scene = Scene::hand_eye(&result.arms[arm], intrinsics, boards[arm], views[arm]);
        scene.rename("base", &format!("base {arm}"));
        scene
    });
    scene.add(&result.base0_from_base1, &other);
    page.scene(&scene);
    for arm in 0..2 {
        page.heading(&format!("Arm {arm}"));
        let verdict = result.arms[arm].verdict().to_string();
        page.note(&format!("The camera in this arm's frame: {verdict}"));
        page.views(&shown_views(&result.arms[arm], views[arm], pictures[arm]));
    }
    page
}

/// The page of a camera's delay.
pub fn latency(camera: &str, result: &Latency, joint: &[JointSample]) -> Page {
    let mut page = Page::new(&format!("Camera {camera}: latency"));
    let text = format!(
        "its frames are stamped {:.1} ms after what they show (± {:.1} ms)",
        result.delay_ms, result.spread_ms
    );
    page.verdict(true, &text);
    page.facts(&[
        (
            "of the joint's motion, seen in the pictures",
            format!("{:.1} %", result.quality * 100.0),
        ),
        ("frames", result.seen.len().to_string()),
    ]);
    page.signals(joint, &result.seen, result.delay_ms);
    page
}

/// A picture within the page, so small that a page of many can still be sent.
fn inlined(picture: &Gray) -> Option<String> {
    const MOST_PX: u32 = 480;
    let factor = picture.width_px().div_ceil(MOST_PX).max(1);
    let (width, height) = (picture.width_px() / factor, picture.height_px() / factor);
    let mut small = Vec::with_capacity((width * height) as usize);
    for y in 0..height {
        for x in 0..width {
            let block = (0..factor * factor).map(|i| {
                let (x, y) = (x * factor + i % factor, y * factor + i / factor);
                u32::from(picture.pixels()[(y * picture.width_px() + x) as usize])
            });
            small.push((block.sum::<u32>() / (factor * factor)) as u8);
        }
    }
    let mut png = Vec::new();
    let encoder = PngEncoder::new(&mut png);
    // Only a picture without pixels is refused.
    encoder
        .write_image(&small, width, height, ExtendedColorType::L8)
        .ok()?;
    Some(format!("data:image/png;base64,{}", base64(&png)))
}
