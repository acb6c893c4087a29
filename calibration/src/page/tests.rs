use hilt_protocol::{
    calibration::{ArmCalibration, Direction, GripperCalibration, JointCalibration, ServoIdentity},
    noise::Uniforms,
};
use hilt_sim::ArmKind;

use super::*;
use crate::{
    bases, hand_eye as solver,
    hand_eye::View,
    intrinsics::calibrate,
    latency as delay,
    synthetic::{World, facing, lens, look, turn},
};

/// A picture of the board as the corners have it: squares between them, light gray around.
fn photo(view: &View, board: &Board) -> Gray {
    let (width, height) = (view.seen.width_px, view.seen.height_px);
    let pose = crate::pose::board_pose(&lens(), board, &view.seen).unwrap();
    let board_from_camera = pose.camera_from_board.inverse();
    let origin = board_from_camera.translation.vector;
    let [across, down] = board.size_m();
    let mut pixels = Vec::new();
    for v in 0..height {
        for u in 0..width {
            let [x, y] = lens().ray([f64::from(u), f64::from(v)]).unwrap();
            let ray = board_from_camera.rotation * nalgebra::Vector3::new(x, y, 1.0);
            let at = origin - ray * (origin.z / ray.z);
            let inside = (0.0..across).contains(&at.x) && (0.0..down).contains(&at.y);
            let square = (at.x / board.square_m).floor() + (at.y / board.square_m).floor();
            pixels.push(match (inside, square % 2.0 == 0.0) {
                (false, _) => 170,
                (true, true) => 30,
                (true, false) => 235,
            });
        }
    }
    Gray::new(width, height, pixels).unwrap()
}

/// Nothing is fetched from elsewhere, what is opened is closed, and no number is none.
fn sound(html: &str) {
    for elsewhere in ["http:", "https:", "<script", "<link", "NaN", "inf"] {
        assert!(!html.contains(elsewhere), "{elsewhere}");
    }
    for tag in [
        "figure", "svg", "g", "table", "tr", "td", "p", "h2", "text", "marker",
    ] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_mountings_page_shows_views_arrows_reasons_and_the_scene() {
    for frame in [Frame::Hand, Frame::Base] {
        let world = World::new(ArmKind::Desk6, frame, 3);
        let mut views = world.views(12, 3);
        views[4].base_from_hand *= turn([0.1, 0.0, 0.0]);
        views[7].seen.corners.truncate(3);
        let pictures: Vec<Gray> = views
            .iter()
            .map(|view| match view.seen.corners.len() {
                3 => Gray::new(640, 480, vec![120; 640 * 480]).unwrap(),
                _ => photo(view, &world.board),
            })
            .collect();
        let result = solver::hand_eye(&lens(), &world.board, frame, &views).unwrap();
        let pictures: Vec<&Gray> = pictures.iter().collect();
        let page = hand_eye(&result, &lens(), &world.board, &views, &pictures);
        sound(&page.html());
        let html = page.html();
        assert_eq!(html.matches("data:image/png;base64,iVBOR").count(), 12);
        assert!(html.contains("class=\"verdict good\">good: 0."));
        assert!(html.contains("left out: it disagrees with the others"));
        assert!(html.contains("left out: shows 3 corners of the board"));
        assert!(html.contains("times as long"));
        assert!(html.contains("arrows 1 time as long"));
        // An arrow for each corner of each view that has a prediction.
        assert_eq!(
            html.matches("\" marker-end=\"url(#tip").count(),
            11 * 40 + 12
        );
    }
}

#[test]
fn the_page_of_a_lens_shows_where_the_board_was_not_seen() {
    let mut uniforms = Uniforms::new(2);
    let board = Board::charuco(9, 6, 0.02, 0.015);
    let views = (0..14).map(|i| {
        let pose = facing(&board, 0.22 + 0.005 * f64::from(i), 0.9, &mut uniforms);
        look(&lens(), &board, &pose, 0.2, &mut uniforms)
    });
    let mut views: Vec<BoardView> = views.collect();
    for corner in views[3].corners.iter_mut().step_by(2) {
        corner.pixel[0] += 12.0;
    }
    let report = calibrate(&board, &views).unwrap();
    let page = intrinsics(&report, &views, &[]);
    sound(&page.html());
    let html = page.html();
    let why = report.views[3].left_out.unwrap().to_string();
    assert!(
        html.contains(&format!("left out: {}", escape(&why))),
        "{why}"
    );
    let verdict = escape(&report.verdict.to_string());
    assert!(html.contains(&verdict), "{verdict}");
    let fields = html.split("No corner was seen in ").nth(1).unwrap();
    let empty: usize = fields.split(' ').next().unwrap().parse().unwrap();
    assert!((1..108).contains(&empty), "{empty}");
}

#[test]
fn what_a_text_holds_is_not_taken_for_the_page() {
    let mut page = Page::new("<1>");
    page.views(&[ShownView {
        size_px: [640, 480],
        rms_px: f64::NAN,
        left_out: Some("it is <blurred>".into()),
        note: Some("\"&\"".into()),
        ..ShownView::default()
    }]);
    let html = page.html();
    sound(&html);
    assert!(html.contains("it is &lt;blurred&gt;") && !html.contains("<blurred>"));
    assert!(html.contains("<title>&lt;1&gt;</title>") && html.contains("&quot;&amp;&quot;"));
}

#[test]
fn the_page_of_two_bases_shows_both() {
    let worlds = [0, 1].map(|seed| World::new(ArmKind::Desk6, Frame::Base, seed));
    let views = [0, 1].map(|arm: usize| worlds[arm].views(10, arm as u64));
    let boards = [&worlds[0].board, &worlds[1].board];
    let both = [&views[0][..], &views[1][..]];
    let result = bases::base_to_base(&lens(), boards, both).unwrap();
    let page = super::bases(&result, &lens(), boards, both, [&[], &[]]);
    sound(&page.html());
    assert!(page.html().contains(">base 0</text>") && page.html().contains(">base 1</text>"));
}

#[test]
fn a_delays_page_shows_both_motions_before_and_after() {
    let mut uniforms = Uniforms::new(1);
    let swing = |t: f64| 0.1 * (t * (2.5 + 0.5 * t)).sin();
    let sample = |time_s: f64, position_rad: f64| delay::JointSample {
        captured_ns: 1_000_000_000 + (time_s * 1e9) as u64,
        position_rad,
    };
    let joint = (0..800)
        .map(|i| f64::from(i) * 0.01)
        .map(|t| sample(t, swing(t)));
    let joint: Vec<_> = joint.collect();
    let seen = (0..200).map(|i| 0.8 + f64::from(i) / 30.0);
    let seen = seen.map(|t| sample(t + 0.08, swing(t) + 0.004 * uniforms.normal()));
    let result = Latency {
        delay_ms: 80.0,
        spread_ms: 0.6,
        quality: 0.98,
        seen: seen.collect(),
    };
    let page = latency("front", &result, &joint);
    sound(&page.html());
    let html = page.html();
    assert!(html.contains("stamped 80.0 ms after what they show (± 0.6 ms)"));
    assert_eq!(html.matches("<polyline").count(), 4);
}

#[test]
fn an_arms_page_has_a_row_for_each_servo() {
    let servo = |id: u8| ServoIdentity {
        id,
        model: 777,
        firmware: "3.10".into(),
        offset_counts: 0,
        lowest_counts: 800 + 100 * u16::from(id),
        highest_counts: 3276,
    };
    let names = ["pan", "lift", "elbow", "wrist <flex>", "roll"];
    let joints = (1u8..).zip(names).map(|(id, name)| JointCalibration {
        name: name.into(),
        servo: servo(id),
        zero_counts: 2048,
        direction: [Direction::Along, Direction::Against][usize::from(id % 2)],
    });
    let arm = ArmCalibration {
        index: 0,
        date: "2026-11-21T12:00:00Z".into(),
        family: "sts3215".into(),
        joints: joints.collect(),
        gripper: GripperCalibration {
            servo: servo(6),
            open_counts: 3000,
            closed_counts: 2000,
        },
    };
    let mut page = Page::new("Joints of an arm");
    page.verdict(true, "good: all five joints go through their whole range");
    page.joints(&arm);
    sound(&page.html());
    let html = page.html();
    assert_eq!(html.matches("<tr><td>").count(), 6);
    assert!(
        html.contains("wrist &lt;flex&gt;") && html.contains("<td>-108° to 101°</td>"),
        "{html}"
    );
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page.html");
    let mut page = Page::new("a & b");
    page.write(&path).unwrap();
    page.verdict(false, "1 < 2");
    page.write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("<title>a &amp; b</title>") && text.contains("1 &lt; 2"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    page.write(dir.path()).unwrap_err();
}
