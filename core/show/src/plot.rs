//! Small plots for the pages that a program leaves: SVG, to stand in the page itself.
//!
//! ```
//! # use hilt_show::plot::{BLUE, Plot};
//! let lengths = [(0.0, 31.0), (1.0, 28.0), (2.0, 40.0)];
//! let svg = Plot::new("steps of an episode", "episode").dots(BLUE, lengths).svg();
//! assert!(svg.is_some_and(|svg| svg.starts_with("<svg")));
//! ```

use std::fmt::Write;

use crate::html::escape;

/// Of what is as it should be.
pub const BLUE: &str = "#1664a5";
/// Of what stands beside it.
pub const ORANGE: &str = "#e06a10";
/// Of what went well.
pub const GREEN: &str = "#28a03c";
/// Of what did not.
pub const RED: &str = "#c83c32";

const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 30.0;
/// Lines across the plot, at round numbers, are at most so many in each direction.
const MOST_TICKS: f64 = 4.0;

/// A plot in the making. What is not finite is left out of it.
#[derive(Clone, Debug)]
pub struct Plot {
    title: String,
    x_name: String,
    width: f64,
    height: f64,
    x: Option<(f64, f64)>,
    y: Option<(f64, f64)>,
    layers: Vec<Layer>,
    marks: Vec<f64>,
}

#[derive(Clone, Debug)]
struct Layer {
    colour: &'static str,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Line(Vec<(f64, f64)>),
    Dots(Vec<(f64, f64)>),
    /// From, to, and how high.
    Bars(Vec<(f64, f64, f64)>),
}

impl Plot {
    /// With nothing in it. `x_name` stands under its right end.
    pub fn new(title: &str, x_name: &str) -> Self {
        Self {
            title: title.to_owned(),
            x_name: x_name.to_owned(),
            width: 360.0,
            height: 190.0,
            x: None,
            y: None,
            layers: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Of another size, pixels.
    pub fn size(mut self, width: f64, height: f64) -> Self {
        (self.width, self.height) = (width.max(120.0), height.max(80.0));
        self
    }

    /// From here to there along x, whatever lies in it; at least.
    pub fn x_range(mut self, low: f64, high: f64) -> Self {
        self.x = Some((low, high));
        self
    }

    /// From here to there along y, whatever lies in it; at least.
    pub fn y_range(mut self, low: f64, high: f64) -> Self {
        self.y = Some((low, high));
        self
    }

    /// Points joined by a line.
    pub fn line(self, colour: &'static str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.with(colour, Kind::Line(finite(points)))
    }

    /// Points by themselves.
    pub fn dots(self, colour: &'static str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.with(colour, Kind::Dots(finite(points)))
    }

    /// Bars from 0 up: from where, to where, how high.
    pub fn bars(
        self,
        colour: &'static str,
        bars: impl IntoIterator<Item = (f64, f64, f64)>,
    ) -> Self {
        let whole = |bar: &(f64, f64, f64)| (bar.0 + bar.1 + bar.2).is_finite();
        let bars = bars.into_iter().filter(whole).collect();
        self.with(colour, Kind::Bars(bars))
    }

    /// A dashed line upright at `x`.
    pub fn mark(mut self, x: f64) -> Self {
        self.marks.extend(x.is_finite().then_some(x));
        self
    }

    fn with(mut self, colour: &'static str, kind: Kind) -> Self {
        self.layers.push(Layer { colour, kind });
        self
    }

    /// The plot; `None` where there is nothing to be drawn.
    pub fn svg(&self) -> Option<String> {
        let (mut x, mut y) = (Span::NONE, Span::NONE);
        for layer in &self.layers {
            match &layer.kind {
                Kind::Line(points) | Kind::Dots(points) => {
                    for point in points {
                        x.add(point.0);
                        y.add(point.1);
                    }
                }
                Kind::Bars(bars) => {
                    for bar in bars {
                        x.add_both(bar.0, bar.1);
                        y.add_both(0.0, bar.2);
                    }
                }
            }
        }
        if x.is_empty() {
            return None;
        }
        for (span, least) in [(&mut x, self.x), (&mut y, self.y)] {
            if let Some((low, high)) = least {
                span.add_both(low, high);
            }
            span.widen();
        }
        let frame = Frame {
            x,
            y,
            width: self.width - LEFT - RIGHT,
            height: self.height - TOP - BOTTOM,
        };
        let mut svg = String::new();
        self.draw(&frame, &mut svg);
        Some(svg)
    }

    fn draw(&self, frame: &Frame, svg: &mut String) {
        let (floor, right) = (TOP + frame.height, LEFT + frame.width);
        // A String takes all that it is given.
        let _ = write!(
            svg,
            "<svg width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" font-size=\"11\" font-family=\"sans-serif\" fill=\"#555\">\
             <text x=\"{LEFT}\" y=\"13\" fill=\"#222\">{2}</text>",
            self.width,
            self.height,
            escape(&self.title)
        );
        for (at, name) in frame.y.ticks() {
            let y = frame.y(at);
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#e8e8e8\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                LEFT - 5.0,
                y + 4.0
            );
        }
        for (at, name) in frame.x.ticks() {
            let x = frame.x(at);
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {TOP}V{floor}\" stroke=\"#f2f2f2\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                floor + 14.0
            );
        }
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{floor}H{right}\" fill=\"none\" stroke=\"#bbb\"/>\
             <text x=\"{right}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            floor + 27.0,
            escape(&self.x_name)
        );
        for layer in &self.layers {
            layer.draw(frame, svg);
        }
        for &at in self.marks.iter().filter(|at| frame.x.holds(**at)) {
            let x = frame.x(at);
            let _ = write!(
                svg,
                "<path d=\"M{x:.1} {TOP}V{floor}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>"
            );
        }
        svg.push_str("</svg>");
    }
}

impl Layer {
    fn draw(&self, frame: &Frame, svg: &mut String) {
        let colour = self.colour;
        let _ = match &self.kind {
            Kind::Line(points) => {
                svg.push_str("<polyline points=\"");
                for (x, y) in points {
                    let _ = write!(svg, "{:.1},{:.1} ", frame.x(*x), frame.y(*y));
                }
                write!(
                    svg,
                    "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>"
                )
            }
            Kind::Dots(points) => {
                let _ = write!(svg, "<g fill=\"{colour}\" fill-opacity=\"0.75\">");
                for (x, y) in points {
                    let _ = write!(
                        svg,
                        "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"/>",
                        frame.x(*x),
                        frame.y(*y)
                    );
                }
                write!(svg, "</g>")
            }
            Kind::Bars(bars) => {
                let _ = write!(svg, "<g fill=\"{colour}\" fill-opacity=\"0.85\">");
                let floor = frame.y(0.0);
                for (from, to, height) in bars {
                    let (left, right) = (frame.x(*from), frame.x(*to));
                    // What is rare is still to be seen.
                    let tall = match *height > 0.0 {
                        true => (floor - frame.y(*height)).max(1.0),
                        false => 0.0,
                    };
                    let _ = write!(
                        svg,
                        "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\"/>",
                        floor - tall,
                        (right - left - 0.6).max(1.5)
                    );
                }
                write!(svg, "</g>")
            }
        };
    }
}

fn finite(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let whole = |point: &(f64, f64)| point.0.is_finite() && point.1.is_finite();
    points.into_iter().filter(whole).collect()
}

/// From the least to the greatest.
#[derive(Clone, Copy, Debug)]
struct Span {
    low: f64,
    high: f64,
}

impl Span {
    const NONE: Self = Self {
        low: f64::INFINITY,
        high: f64::NEG_INFINITY,
    };

    fn add(&mut self, at: f64) {
        if at.is_finite() {
            // Wider would be infinitely wide.
            let at = at.clamp(-1e300, 1e300);
            (self.low, self.high) = (self.low.min(at), self.high.max(at));
        }
    }

    fn add_both(&mut self, one: f64, other: f64) {
        self.add(one);
        self.add(other);
    }

    fn is_empty(&self) -> bool {
        self.low > self.high
    }

    fn holds(&self, at: f64) -> bool {
        (self.low..=self.high).contains(&at)
    }

    /// A span of nothing is drawn in the middle of something.
    fn widen(&mut self) {
        if self.high - self.low <= self.low.abs() * 1e-9 {
            let half = (self.low.abs() * 0.05).max(0.5);
            (self.low, self.high) = (self.low - half, self.high + half);
        }
    }

    /// Round numbers in it, and how they are written.
    fn ticks(&self) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / MOST_TICKS;
        let ten = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * ten);
        let step = step.into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let first = (self.low / step - 1e-6).ceil();
        let ticks = (0..10).map(|i| (first + f64::from(i)) * step);
        // Of a sum of steps 0 is what is next to nothing.
        let round = ticks.map(|at| if at.abs() < step * 1e-6 { 0.0 } else { at });
        round
            .take_while(|at| *at <= self.high + step * 1e-6)
            .map(|at| (at, tick(at, step)))
            .collect()
    }
}

struct Frame {
    x: Span,
    y: Span,
    width: f64,
    height: f64,
}

impl Frame {
    fn x(&self, at: f64) -> f64 {
        LEFT + self.width * share(at, self.x)
    }

    fn y(&self, at: f64) -> f64 {
        TOP + self.height * (1.0 - share(at, self.y))
    }
}

/// Where in a span; at its ends what lies beyond.
fn share(at: f64, span: Span) -> f64 {
    // Halves, because a span's width may be more than the largest number.
    let share = (at / 2.0 - span.low / 2.0) / (span.high / 2.0 - span.low / 2.0);
    share.clamp(0.0, 1.0)
}

/// With as many decimals as tell it from the next.
fn tick(at: f64, step: f64) -> String {
    match (1e-4..1e6).contains(&step) && at.abs() < 1e7 {
        true => {
            let decimals = -(step.log10() + 1e-9).floor();
            format!("{at:.*}", decimals.max(0.0) as usize)
        }
        false => number(at),
    }
}

/// Four digits that count at most, for an axis or a table.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || size < 1e9 && value == value.trunc() {
        // Plus 0, because -0 is 0.
        return format!("{:.0}", value + 0.0);
    }
    if !(0.001..1e9).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = 3.0 - size.log10().floor();
    let text = format!("{value:.*}", decimals.max(0.0) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (560.0, "560"),
            (0.95, "0.95"),
            (0.85063, "0.8506"),
            (-0.0038, "-0.0038"),
            (0.99999, "1"),
            (241.514, "241.5"),
            (0.0003, "3.00e-4"),
            (6012.5, "6012"),
            (-0.0, "0"),
            (2.5e9, "2.50e9"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn of_nothing_there_is_no_plot_and_nan_is_left_out() {
        assert_eq!(Plot::new("t", "x").svg(), None);
        let nothing = [(f64::NAN, 1.0), (1.0, f64::INFINITY)];
        assert_eq!(Plot::new("t", "x").line(BLUE, nothing).svg(), None);
        let svg = Plot::new("a<b", "x & y")
            .line(BLUE, [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)])
            .dots(RED, [(1.0, 2.0)])
            .bars(GREEN, [(0.0, 1.0, 5.0), (1.0, f64::NAN, 2.0)])
            .mark(f64::NAN)
            .svg();
        let svg = svg.unwrap();
        assert!(svg.contains("a&lt;b") && svg.contains("x &amp; y"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        // The line's two points: at the left end and at the right.
        let line = svg.split("points=\"").nth(1).unwrap();
        let line: Vec<&str> = line.split('"').next().unwrap().split_whitespace().collect();
        assert_eq!(line.len(), 2);
        assert!(
            line[0].starts_with("52.0,") && line[1].starts_with("350.0,"),
            "{line:?}"
        );
    }

    #[test]
    fn one_point_and_the_widest_span_stay_within_the_plot() {
        for points in [
            vec![(3.0, 7.0)],
            vec![(-f64::MAX, f64::MAX), (f64::MAX, -f64::MAX)],
            vec![(1e9, 1e-300), (1e9 + 1.0, -1e-300)],
        ] {
            let svg = Plot::new("t", "x")
                .dots(BLUE, points.clone())
                .svg()
                .unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            for part in svg.split("cx=\"").skip(1) {
                let x: f64 = part.split('"').next().unwrap().parse().unwrap();
                assert!((LEFT..=350.0).contains(&x), "{points:?}: {x}");
            }
        }
    }

    #[test]
    fn ticks_are_round_and_within() {
        for (low, high, wanted) in [
            (0.0, 1.0, "0.0 0.5 1.0"),
            (-1.2, 1.3, "-1 0 1"),
            (17.0, 63.0, "20 40 60"),
            (0.0, 100.0, "0 50 100"),
            (0.098, 0.104, "0.098 0.100 0.102 0.104"),
        ] {
            let ticks = Span { low, high }.ticks();
            let names: Vec<&str> = ticks.iter().map(|(_, name)| &**name).collect();
            assert_eq!(names.join(" "), wanted);
        }
    }
}
