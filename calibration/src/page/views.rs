//! What a camera saw, and where it was predicted.

use std::fmt::Write;

use hilt_show::html::escape;

use super::{Page, inlined};
use crate::picture::Gray;

/// One view as the page shows it.
#[derive(Clone, Debug, Default)]
pub struct ShownView<'a> {
    /// The picture itself, where it was kept.
    pub picture: Option<&'a Gray>,
    /// Its columns and rows.
    pub size_px: [u32; 2],
    /// Corners seen, pixels.
    pub seen: Vec<[f64; 2]>,
    /// The same where they were predicted; empty where nothing was.
    pub predicted: Vec<[f64; 2]>,
    /// Root mean square distance of these, pixels; NaN where nothing was predicted.
    pub rms_px: f64,
    /// Why the view was not used.
    pub left_out: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
}

const GREEN: &str = "#1c8a34";
const RED: &str = "#c03020";
/// Arrows are magnified by one of these.
const FACTORS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

impl Page {
    /// Each view with the corners seen and arrows to where they are predicted, and a bar for each of how
    /// far that is.
    pub fn views(&mut self, views: &[ShownView]) {
        self.heading("Views");
        self.bars(views);
        let used = views.iter().filter(|view| view.left_out.is_none());
        let factor = magnification(used);
        self.note(&format!(
            "Circles: corners seen. Arrows: to where they are predicted, {factor} times as long where nothing else is said."
        ));
        for (number, view) in (1..).zip(views) {
            let figure = figure(number, view, factor);
            self.push(format_args!("{figure}"));
        }
        self.push(format_args!("\n"));
    }

    /// How far each view's corners are from where they are predicted.
    fn bars(&mut self, views: &[ShownView]) {
        let highest = |left_out: bool| {
            let of = views
                .iter()
                .filter(|view| view.left_out.is_some() == left_out);
            let finite = of.map(|view| view.rms_px).filter(|rms| rms.is_finite());
            finite.fold(0.0, f64::max)
        };
        // Those that were used set the scale; the others may go beyond it.
        let top = match highest(false) {
            0.0 => highest(true).max(1e-3),
            used => 1.5 * used,
        };
        let (step, height) = (26.0, 110.0);
        let width = 46.0 + step * views.len() as f64;
        let mut svg = format!(
            "<svg width=\"{width}\" height=\"{}\" font-size=\"10\">",
            height + 30.0
        );
        for part in [0.0, 0.5, 1.0] {
            let y = 10.0 + height * (1.0 - part);
            let _ = write!(
                svg,
                "<line x1=\"36\" x2=\"{width}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/>\
                 <text x=\"32\" y=\"{}\" text-anchor=\"end\">{:.2}</text>",
                y + 3.0,
                top * part
            );
        }
        for (i, view) in views.iter().enumerate() {
            let x = 42.0 + step * i as f64;
            let (colour, class) = match view.left_out {
                Some(_) => (RED, " left out"),
                None => (GREEN, ""),
            };
            let share = (view.rms_px / top).clamp(0.0, 1.0);
            if view.rms_px.is_finite() {
                let _ = write!(
                    svg,
                    "<rect x=\"{x}\" y=\"{:.1}\" width=\"18\" height=\"{:.1}\" fill=\"{colour}\">\
                     <title>view {}{class}: {:.2} px</title></rect>",
                    10.0 + height * (1.0 - share),
                    height * share,
                    i + 1,
                    view.rms_px
                );
                // Broken: it goes on.
                if view.rms_px > top {
                    let _ = write!(
                        svg,
                        "<path d=\"M{} 18 l22 -5\" stroke=\"#fff\" stroke-width=\"3\"/>",
                        x - 2.0
                    );
                }
            } else {
                let _ = write!(
                    svg,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" style=\"fill:{RED}\">×</text>",
                    x + 9.0,
                    6.0 + height
                );
            }
            let _ = write!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x + 9.0,
                height + 24.0,
                i + 1
            );
        }
        self.push(format_args!(
            "<figure>{svg}</svg><figcaption>Root mean square distance of a view's corners from where they are predicted, pixels. Red: left out.</figcaption></figure>\n"
        ));
    }

    /// Where in the picture corners were seen, of all views that were used: where there are none, a lens
    /// is not known.
    pub fn coverage(&mut self, size_px: [u32; 2], views: &[ShownView]) {
        const ACROSS: usize = 12;
        const DOWN: usize = 9;
        let [width, height] = size_px.map(f64::from);
        let mut counts = [[0u32; ACROSS]; DOWN];
        let mut dots = String::new();
        for view in views.iter().filter(|view| view.left_out.is_none()) {
            for [x, y] in &view.seen {
                let cell = |at: f64, size: f64, cells: usize| {
                    ((at + 0.5) / size * cells as f64).clamp(0.0, cells as f64 - 1.0) as usize
                };
                counts[cell(*y, height, DOWN)][cell(*x, width, ACROSS)] += 1;
                let _ = write!(
                    dots,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"/>",
                    width / 300.0
                );
            }
        }
        let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
        let mut cells = String::new();
        let mut empty = 0;
        for (row, counts) in counts.iter().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                empty += u32::from(*count == 0);
                let (fill, opacity) = match count {
                    0 => (RED, 0.25),
                    count => (GREEN, 0.15 + 0.5 * f64::from(*count) / f64::from(most)),
                };
                let (w, h) = (width / ACROSS as f64, height / DOWN as f64);
                let _ = write!(
                    cells,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{fill}\" fill-opacity=\"{opacity:.2}\"/>",
                    column as f64 * w,
                    row as f64 * h
                );
            }
        }
        let cells_in_all = ACROSS * DOWN;
        self.heading("Where in the picture the board was seen");
        self.push(format_args!(
            "<figure><svg width=\"400\" viewBox=\"0 0 {width} {height}\">{cells}<g fill=\"#123\">{dots}</g>\
             <rect width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"#888\"/></svg>\
             <figcaption>Each dot is a corner. No corner was seen in {empty} of {cells_in_all} fields (red): show the board there for a better lens.</figcaption></figure>\n"
        ));
    }
}

/// So that a common arrow is as long as a twentieth of the picture.
fn magnification<'a>(views: impl Iterator<Item = &'a ShownView<'a>>) -> f64 {
    let mut lengths: Vec<f64> = Vec::new();
    for view in views {
        let pairs = view.seen.iter().zip(&view.predicted);
        let away = pairs.map(|(seen, at)| (at[0] - seen[0]).hypot(at[1] - seen[1]));
        lengths.extend(away.map(|away| away / f64::from(view.size_px[0].max(1))));
    }
    lengths.sort_by(f64::total_cmp);
    let common = lengths.get(lengths.len() * 9 / 10).copied().unwrap_or(1.0);
    let fits = FACTORS.iter().rev().find(|factor| *factor * common <= 0.05);
    fits.copied().unwrap_or(1.0)
}

fn figure(number: usize, view: &ShownView, common: f64) -> String {
    // What was left out is often far off.
    let factor = match view.left_out {
        Some(_) => magnification([view].into_iter()).min(common),
        None => common,
    };
    let [width, height] = view.size_px.map(f64::from);
    // In the picture's own pixels, of which the first one's middle is (0, 0).
    let unit = width / 320.0;
    let mut svg = format!(
        "<svg width=\"320\" viewBox=\"-0.5 -0.5 {width} {height}\">\
         <defs><marker id=\"tip{number}\" viewBox=\"0 0 6 6\" refX=\"5\" refY=\"3\" markerWidth=\"4\" markerHeight=\"4\" orient=\"auto\">\
         <path d=\"M0 0L6 3L0 6z\" fill=\"#e04818\"/></marker></defs>\
         <rect x=\"-0.5\" y=\"-0.5\" width=\"{width}\" height=\"{height}\" fill=\"#f3f3f3\" stroke=\"#bbb\" stroke-width=\"{unit}\"/>"
    );
    if let Some(data) = view.picture.and_then(inlined) {
        let _ = write!(
            svg,
            "<image x=\"-0.5\" y=\"-0.5\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\" href=\"{data}\"/>"
        );
    }
    let _ = write!(
        svg,
        "<g fill=\"none\" stroke=\"#18a0e0\" stroke-width=\"{unit}\">"
    );
    for [x, y] in &view.seen {
        let _ = write!(
            svg,
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{:.1}\"/>",
            3.0 * unit
        );
    }
    let _ = write!(
        svg,
        "</g><g stroke=\"#e04818\" stroke-width=\"{:.2}\" marker-end=\"url(#tip{number})\">",
        1.2 * unit
    );
    for (seen, at) in view.seen.iter().zip(&view.predicted) {
        let end = [0, 1].map(|i| seen[i] + factor * (at[i] - seen[i]));
        if end.iter().all(|end| end.is_finite() && end.abs() < 1e5) {
            let _ = write!(
                svg,
                "<path d=\"M{:.2} {:.2}L{:.2} {:.2}\" marker-end=\"url(#tip{number})\"/>",
                seen[0], seen[1], end[0], end[1]
            );
        }
    }
    svg.push_str("</g></svg>");
    let mut caption = format!("View {number}");
    if view.rms_px.is_finite() {
        let _ = write!(caption, ": {:.2} px", view.rms_px);
    }
    if let Some(note) = &view.note {
        let _ = write!(caption, ", {}", escape(note));
    }
    if factor != common && !view.predicted.is_empty() {
        let times = if factor == 1.0 { "time" } else { "times" };
        let _ = write!(caption, "; arrows {factor} {times} as long");
    }
    if let Some(why) = &view.left_out {
        let _ = write!(
            caption,
            "<br><span class=\"out\">left out: {}</span>",
            escape(why)
        );
    }
    format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>")
}
