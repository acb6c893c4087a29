//! An arm's servos: where each is zero, and how far it may go.

use std::fmt::Write;

use hilt_protocol::calibration::{ArmCalibration, COUNTS_PER_TURN, Direction};
use hilt_show::html::escape;

use super::Page;

const TURN: f64 = COUNTS_PER_TURN as f64;
const WIDTH: f64 = 420.0;

impl Page {
    /// A row for each servo: the counts that it may go to, its zero, and what that is in degrees.
    pub fn joints(&mut self, arm: &ArmCalibration) {
        self.heading(&format!("Arm {} ({})", arm.index, arm.family));
        self.push(format_args!(
            "<table><tr><th>joint</th><th>servo</th><th>counts 0 to 4095</th><th>range</th><th>zero</th><th>way</th><th>firmware</th></tr>\n"
        ));
        for joint in &arm.joints {
            let servo = &joint.servo;
            let (least, greatest) = joint.range_rad();
            let bar = bar(
                servo.lowest_counts,
                servo.highest_counts,
                &[(joint.zero_counts, "zero")],
            );
            self.push(format_args!(
                "<tr><td>{}</td><td>{}</td><td>{bar}</td><td>{:.0}° to {:.0}°</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&joint.name),
                servo.id,
                least.to_degrees(),
                greatest.to_degrees(),
                joint.zero_counts,
                match joint.direction {
                    Direction::Along => "with the counts",
                    Direction::Against => "against them",
                },
                escape(&servo.firmware)
            ));
        }
        let gripper = &arm.gripper;
        let servo = &gripper.servo;
        let marks = [
            (gripper.open_counts, "open"),
            (gripper.closed_counts, "closed"),
        ];
        let bar = bar(servo.lowest_counts, servo.highest_counts, &marks);
        let turned = (f64::from(gripper.open_counts) - f64::from(gripper.closed_counts)).abs();
        self.push(format_args!(
            "<tr><td>gripper</td><td>{}</td><td>{bar}</td><td>{:.0}° open</td><td></td><td></td><td>{}</td></tr></table>\n",
            servo.id,
            turned * 360.0 / TURN,
            escape(&servo.firmware)
        ));
        self.note(&format!(
            "Measured {}. Green: where the servo may go. Line: its zero, or open and closed.",
            arm.date
        ));
    }
}

fn bar(lowest: u16, highest: u16, marks: &[(u16, &str)]) -> String {
    let x = |counts: u16| f64::from(counts) / TURN * WIDTH;
    let mut svg = format!(
        "<svg width=\"{WIDTH}\" height=\"44\" font-size=\"9\"><rect y=\"14\" width=\"{WIDTH}\" height=\"14\" fill=\"#eee\"/>\
         <rect x=\"{:.1}\" y=\"14\" width=\"{:.1}\" height=\"14\" fill=\"#7fc08d\"/>\
         <text x=\"{:.1}\" y=\"39\">{lowest}</text><text x=\"{:.1}\" y=\"39\" text-anchor=\"end\">{highest}</text>",
        x(lowest),
        x(highest) - x(lowest),
        x(lowest),
        x(highest)
    );
    for (counts, name) in marks {
        let at = x(*counts);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"11\" y2=\"31\" stroke=\"#222\" stroke-width=\"2\"/>\
             <text x=\"{at:.1}\" y=\"9\" text-anchor=\"middle\">{name}</text>"
        );
    }
    svg + "</svg>"
}
