//! A camera that freezes, lags or goes away when a plan says so.

use std::collections::VecDeque;

use hilt_protocol::{CameraSpec, Image};

use super::{FaultKind, FaultPlan};
use crate::{Camera, CameraError};

/// A camera with the faults of a plan: [`FaultKind::CameraFrozen`], [`FaultKind::CameraLate`],
/// [`FaultKind::CameraGone`].
#[derive(Debug)]
pub struct FaultyCamera<T, N> {
    inner: T,
    plan: FaultPlan,
    index: usize,
    origin_ns: u64,
    now_ns: N,
    /// What was given last: what a frozen camera gives again.
    last: Option<Image>,
    /// Frames of the greatest lateness in the plan, oldest first; empty where there is none.
    past: VecDeque<Image>,
    longest_delay_ns: Option<u64>,
}

impl<T: Camera, N: Fn() -> u64> FaultyCamera<T, N> {
    /// `inner`, which is camera `index` of the rig, with the faults of `plan`, whose times count
    /// from `origin_ns`; before that there are none. `now_ns` tells the time on the clock that
    /// frames are stamped by.
    pub fn new(inner: T, plan: FaultPlan, index: usize, origin_ns: u64, now_ns: N) -> Self {
        let longest_delay_ns = plan.worst(FaultKind::CameraLate, index).map(delay_ns);
        Self {
            inner,
            plan,
            index,
            origin_ns,
            now_ns,
            last: None,
            past: VecDeque::new(),
            longest_delay_ns,
        }
    }

    /// The newest frame of the device, kept for as long as a late one may be asked for.
    fn grab(&mut self, now_ns: u64) -> Result<Image, CameraError> {
        let image = self.inner.newest()?;
        if let Some(delay_ns) = self.longest_delay_ns {
            let newest_ns = self.past.back().map(|image| image.captured_ns);
            if newest_ns != Some(image.captured_ns) {
                self.past.push_back(image.clone());
            }
            // One frame at least is older than the delay: the one that is due.
            let old = |image: &Image| image.captured_ns.saturating_add(delay_ns) <= now_ns;
            while self.past.get(1).is_some_and(old) {
                self.past.pop_front();
            }
        }
        Ok(image)
    }

    /// The newest of the kept frames that is at least so old, or the oldest there is.
    fn late(&self, now_ns: u64, delay_ns: u64) -> Option<Image> {
        let old = |image: &&Image| image.captured_ns.saturating_add(delay_ns) <= now_ns;
        let due = self.past.iter().rev().find(old);
        due.or(self.past.front()).cloned()
    }
}

fn delay_ns(delay_s: f64) -> u64 {
    (delay_s * 1e9) as u64
}

impl<T: Camera, N: Fn() -> u64> Camera for FaultyCamera<T, N> {
    fn spec(&self) -> &CameraSpec {
        self.inner.spec()
    }

    fn waits(&self) -> bool {
        self.inner.waits()
    }

    fn newest(&mut self) -> Result<Image, CameraError> {
        let now_ns = (self.now_ns)();
        let since_ns = now_ns.checked_sub(self.origin_ns);
        let fault = |kind| self.plan.active(kind, self.index, since_ns?);
        if fault(FaultKind::CameraGone).is_some() {
            return Err(CameraError::NoFrame {
                name: self.spec().name.clone(),
                reason: "it is gone (injected)".to_owned(),
            });
        }
        let frozen = fault(FaultKind::CameraFrozen).is_some();
        let late = fault(FaultKind::CameraLate);
        if let (true, Some(last)) = (frozen, &self.last) {
            return Ok(last.clone());
        }
        let mut image = self.grab(now_ns)?;
        if let Some(late) = late {
            image = self.late(now_ns, delay_ns(late.magnitude)).unwrap_or(image);
        }
        // A pipeline that begins to lag stalls first: capture times do not run backwards.
        if let Some(last) = &self.last
            && last.captured_ns > image.captured_ns
        {
            image = last.clone();
        }
        self.last = Some(image.clone());
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hilt_realtime::{Clock, Fake};

    use super::*;
    use crate::{conformance, faults::FaultSpec};

    const MS: u64 = 1_000_000;

    /// Gives a frame of the time it is.
    struct Eye(CameraSpec, Fake);

    impl Camera for Eye {
        fn spec(&self) -> &CameraSpec {
            &self.0
        }

        fn newest(&mut self) -> Result<Image, CameraError> {
            Ok(Image {
                captured_ns: self.1.now_ns(),
                height: 1,
                width: 1,
                rgb: Arc::new([1, 2, 3]),
            })
        }
    }

    fn camera(
        clock: &Fake,
        faults: &[(FaultKind, f64)],
    ) -> FaultyCamera<Box<dyn Camera>, impl Fn() -> u64 + use<>> {
        let faults = faults.iter().map(|(kind, from_s)| FaultSpec {
            kind: *kind,
            from_s: *from_s,
            for_s: 1.0,
            index: 2,
            servo: None,
            magnitude: None,
        });
        let plan = FaultPlan {
            seed: 0,
            faults: faults.collect(),
        };
        let spec = CameraSpec {
            name: "eye".into(),
            height: 1,
            width: 1,
        };
        let eye = Box::new(Eye(spec, clock.clone())) as Box<dyn Camera>;
        let clock = clock.clone();
        FaultyCamera::new(eye, plan, 2, 0, move || clock.now_ns())
    }

    /// Ages of the frames that are given every 100 ms from `from_ms` on, milliseconds.
    fn ages(
        clock: &Fake,
        camera: &mut dyn Camera,
        from_ms: u64,
        frames: usize,
    ) -> Vec<Option<u64>> {
        let age = |i: usize| {
            clock.set_ns((from_ms + 100 * i as u64) * MS);
            let image = camera.newest().ok()?;
            Some((clock.now_ns() - image.captured_ns) / MS)
        };
        (0..frames).map(age).collect()
    }

    #[test]
    fn a_frozen_camera_gives_the_frame_it_gave_last() {
        let clock = Fake::at(0);
        let mut camera = camera(&clock, &[(FaultKind::CameraFrozen, 1.0)]);
        let seen = ages(&clock, &mut camera, 800, 5);
        assert_eq!(seen, [Some(0), Some(0), Some(100), Some(200), Some(300)]);
        assert_eq!(ages(&clock, &mut camera, 2000, 1), [Some(0)]);
    }

    #[test]
    fn a_late_camera_stalls_until_its_frames_are_old_enough() {
        let clock = Fake::at(0);
        let mut camera = camera(&clock, &[(FaultKind::CameraLate, 1.0)]);
        let seen = ages(&clock, &mut camera, 500, 10).into_iter();
        let seen: Vec<u64> = seen.map(Option::unwrap).collect();
        assert_eq!(seen, [0, 0, 0, 0, 0, 100, 200, 300, 300, 300]);
        assert_eq!(ages(&clock, &mut camera, 2000, 1), [Some(0)]);
        assert!(camera.past.len() < 10, "{} are kept", camera.past.len());
    }

    #[test]
    fn a_camera_that_is_gone_gives_nothing_and_comes_back() {
        let clock = Fake::at(0);
        let mut camera = camera(&clock, &[(FaultKind::CameraGone, 1.0)]);
        assert_eq!(
            ages(&clock, &mut camera, 900, 3),
            [Some(0), None, None],
            "gone from 1.0 s on"
        );
        assert_eq!(ages(&clock, &mut camera, 2000, 1), [Some(0)]);
    }

    #[test]
    fn without_a_fault_it_is_the_camera_that_it_was() {
        let clock = Fake::at(0);
        let mut camera = camera(&clock, &[]);
        let pass_ns = |duration_ns| {
            clock.advance_ns(duration_ns);
            clock.now_ns()
        };
        conformance::camera(&mut camera, pass_ns).unwrap();
    }
}
