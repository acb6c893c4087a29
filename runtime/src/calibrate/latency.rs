//! How late a camera's frames are: a joint swings before it.

use hilt_calibration::latency::{self, Frame, JointSample, Latency, sweep};

use super::{
    CalibrateError, Station,
    views::{ViewsError, Watch, gray},
};

/// The hand swings so far to either side, metres.
const REACH_M: f64 = 0.06;
/// Of the joints' highest speed the swing takes this share.
const SPEED_SHARE: f64 = 0.6;

/// What was seen: where the joint was, and the frames.
#[derive(Clone, Debug, Default)]
pub struct Swing {
    /// The joint's positions.
    pub joint: Vec<JointSample>,
    /// The frames.
    pub frames: Vec<Frame>,
}

/// Lets a joint of the arm swing, and finds how late the camera's frames are. The hand does not come
/// below `lowest_m` in the arm's base frame. The station is one for sweeps.
pub fn measure(
    station: &mut Station,
    camera: &str,
    arm: usize,
    lowest_m: f64,
    watch: &mut dyn Watch,
) -> Result<(Latency, Swing), CalibrateError> {
    let index = station.camera(camera)?;
    let start = station.target(arm)?;
    let plan = sweep::plan(
        &station.chain(arm)?,
        &start,
        REACH_M,
        SPEED_SHARE * station.fastest_rad_s(arm),
        lowest_m,
    )?;
    let began_ns = station.now_ns();
    let mut swing = Swing::default();
    loop {
        let time_s = station.now_ns().saturating_sub(began_ns) as f64 * 1e-9;
        if time_s > plan.length_s() {
            break;
        }
        let mut goal = start;
        goal.as_mut_slice()[plan.joint] += plan.offset_rad(time_s);
        let look = station.step(arm, &goal)?;
        let state = &look.states[arm];
        let sample = JointSample {
            captured_ns: state.captured_ns,
            position_rad: state.joints.as_slice()[plan.joint],
        };
        // The same state, or the same frame, may still be the newest one.
        if swing
            .joint
            .last()
            .is_none_or(|last| last.captured_ns < sample.captured_ns)
        {
            swing.joint.push(sample);
        }
        let image = &look.images[index];
        if swing
            .frames
            .last()
            .is_none_or(|last| last.stamped_ns < image.captured_ns)
        {
            let picture = gray(image).map_err(ViewsError::from)?;
            swing.frames.push(Frame::new(image.captured_ns, &picture));
        }
        let (frames, words) = (swing.frames.len(), format!("joint {} swings", plan.joint));
        watch.stand(frames, (plan.length_s() * 30.0) as usize, &words, image);
    }
    let found = latency::estimate(&swing.joint, &swing.frames)?;
    Ok((found, swing))
}
