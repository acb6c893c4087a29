//! The joint's motion and what the pictures show of it, one over the other.

use std::fmt::Write;

use super::Page;
use crate::latency::JointSample;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 190.0;

impl Page {
    /// The joint's motion and the pictures', as they were stamped, and with the pictures earlier by the
    /// delay.
    pub fn signals(&mut self, joint: &[JointSample], seen: &[JointSample], delay_ms: f64) {
        let (Some(first), Some(last)) = (seen.first(), seen.last()) else {
            return;
        };
        let span_s = (last.captured_ns - first.captured_ns) as f64 * 1e-9;
        // In the middle, where it is fast, a short part shows the delay best.
        let near_s = (0.55 * span_s, (0.55 * span_s + 1.5).min(span_s));
        let delay_s = delay_ms * 1e-3;
        self.heading("As stamped");
        self.plot(joint, seen, 0.0, (0.0, span_s));
        self.plot(joint, seen, 0.0, near_s);
        self.heading(&format!("With the pictures {delay_ms:.1} ms earlier"));
        self.plot(joint, seen, delay_s, (0.0, span_s));
        self.plot(joint, seen, delay_s, near_s);
        self.note(
            "Blue: the joint, as the arm said. Orange dots: the joint, as each picture shows it.",
        );
    }

    /// Both from one time to another, seconds after the first picture.
    fn plot(
        &mut self,
        joint: &[JointSample],
        seen: &[JointSample],
        earlier_s: f64,
        (from_s, to_s): (f64, f64),
    ) {
        let zero_ns = seen.first().map_or(0, |seen| seen.captured_ns);
        let time_s = |sample: &JointSample| (sample.captured_ns as f64 - zero_ns as f64) * 1e-9;
        let values = joint.iter().chain(seen).map(|sample| sample.position_rad);
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let x = |time_s: f64| 40.0 + (time_s - from_s) / (to_s - from_s).max(1e-9) * (WIDTH - 50.0);
        let y = |rad: f64| 8.0 + (high - rad) / (high - low).max(1e-9) * (HEIGHT - 30.0);
        let inside = |time_s: &f64| (from_s..=to_s).contains(time_s);
        let mut line = String::new();
        for sample in joint {
            let at = time_s(sample);
            if inside(&at) {
                let _ = write!(line, "{:.1},{:.1} ", x(at), y(sample.position_rad));
            }
        }
        let mut dots = String::new();
        for sample in seen {
            let at = time_s(sample) - earlier_s;
            if inside(&at) && sample.position_rad.is_finite() {
                let _ = write!(
                    dots,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"/>",
                    x(at),
                    y(sample.position_rad)
                );
            }
        }
        let mut axis = String::new();
        let step_s = if to_s - from_s > 3.0 { 1.0 } else { 0.25 };
        let mut at = (from_s / step_s).ceil() * step_s;
        while at <= to_s {
            let _ = write!(
                axis,
                "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"8\" y2=\"{1}\" stroke=\"#eee\"/><text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{at} s</text>",
                x(at),
                HEIGHT - 22.0,
                HEIGHT - 8.0
            );
            at += step_s;
        }
        self.push(format_args!(
            "<figure><svg width=\"{WIDTH}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"10\">{axis}\
             <text x=\"36\" y=\"14\" text-anchor=\"end\">{:.1}°</text><text x=\"36\" y=\"{}\" text-anchor=\"end\">{:.1}°</text>\
             <polyline points=\"{line}\" fill=\"none\" stroke=\"#1664a5\" stroke-width=\"1.5\"/>\
             <g fill=\"#e06a10\">{dots}</g></svg></figure>\n",
            high.to_degrees(),
            HEIGHT - 24.0,
            low.to_degrees()
        ));
    }
}
