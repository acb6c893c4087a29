//! What a person has to know of a camera's mounting, in a line.

use std::fmt;

use hilt_protocol::calibration::{Frame, Spread};

use super::{Axis, HandEye, refine::weakest};

/// Good enough for a hand that grasps: within this it is better than what fingers need.
pub const GOOD: Spread = Spread {
    translation_m: 0.002,
    rotation_rad: 0.005,
};

/// An arm that errs more in a view has something that more views do not mend.
const WORN: Spread = Spread {
    translation_m: 0.006,
    rotation_rad: 0.03,
};

/// Less than this about the second axis, root mean square between two views, is hardly a turn.
const WELL_TURNED_RAD: f64 = 0.2;

/// A lens that the arm's motion shows to be longer or shorter by more was not calibrated well, or its focus
/// was moved since: its distortion, which is not fitted along, cannot be trusted then either.
const LENS_OFF: f64 = 0.01;

/// Whether it is good, and what to do where it is not. Its text is for a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Good.
    Good(Spread),
    /// The lens is not the one that was given.
    Lens {
        /// Its focal length over the given one's: [`HandEye::focal`].
        focal: f64,
        /// What is known if it is taken for another one.
        spread: Spread,
    },
    /// The hand was turned about one axis and hardly about others.
    Turn {
        /// In which frame the axis is.
        frame: Frame,
        /// About which it was turned.
        about: Axis,
        /// How much about the next one, root mean square between two views.
        across_rad: f64,
        /// Known so far.
        spread: Spread,
    },
    /// The views were well turned; there are too few of them for an arm or corners this noisy.
    More {
        /// In which frame the camera's place is known worst …
        frame: Frame,
        /// … along this direction.
        along: Axis,
        /// About how many more would make it good.
        views: usize,
        /// The arm's own error in a view.
        arm: Spread,
        /// Known so far.
        spread: Spread,
    },
}

impl Verdict {
    /// Whether nothing has to be done.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(spread) => write!(f, "good: {}", Known(spread)),
            Self::Lens { focal, spread } => write!(
                f,
                "the lens seems {:.1} % {} than calibrated: calibrate the lens again; so far {}",
                (focal - 1.0).abs() * 100.0,
                if *focal > 1.0 { "longer" } else { "shorter" },
                Known(spread),
            ),
            Self::Turn {
                about,
                across_rad,
                spread,
                frame,
            } => write!(
                f,
                "take more views: rotation about {} of the {} is missing (it was turned about {about} and only {:.0}° about others); so far {}",
                about.across(),
                named(*frame),
                across_rad.to_degrees(),
                Known(spread),
            ),
            Self::More {
                frame,
                along,
                views,
                arm,
                spread,
            } => {
                let frame = named(*frame);
                write!(
                    f,
                    "take about {views} more views, turned as far as the board stays in the picture: {} so far, worst along {along} of the {frame}",
                    Known(spread)
                )?;
                match arm.translation_m > WORN.translation_m || arm.rotation_rad > WORN.rotation_rad
                {
                    true => write!(
                        f,
                        "; before that see to the arm, which errs by {} from view to view: is something loose, are its joints calibrated (hilt calibrate joints)?",
                        Known(arm)
                    ),
                    false => Ok(()),
                }
            }
        }
    }
}

/// One standard deviation, as a person reads it.
pub(crate) struct Known<'a>(pub &'a Spread);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mm, degrees) = (self.0.translation_m * 1e3, self.0.rotation_rad.to_degrees());
        // Two digits of either.
        let digits = |value: f64, most: usize| match value {
            v if v >= 9.95 => 0,
            v if v >= 0.995 => 1.min(most),
            _ => 2.min(most),
        };
        let (a, b) = (digits(mm, 2), digits(degrees, 2));
        write!(f, "{mm:.a$} mm, {degrees:.b$}°")
    }
}

fn named(frame: Frame) -> &'static str {
    match frame {
        Frame::Hand => "hand",
        Frame::Base => "base",
    }
}

fn is_good(spread: &Spread) -> bool {
    spread.translation_m <= GOOD.translation_m && spread.rotation_rad <= GOOD.rotation_rad
}

/// So many more of the same kind make it good: the spread falls with the root of their number.
pub(crate) fn more(spread: &Spread, good: &Spread, views: usize) -> usize {
    let (moved, turned) = (
        spread.translation_m / good.translation_m,
        spread.rotation_rad / good.rotation_rad,
    );
    let wanted = views as f64 * moved.max(turned).powi(2);
    // More than a hundred is no advice.
    (wanted.ceil() as usize).saturating_sub(views).clamp(3, 100)
}

pub(super) fn verdict(result: &HandEye) -> Verdict {
    let (frame, spread, focal) = (result.frame, result.spread, result.focal());
    if (focal - 1.0).abs() > LENS_OFF {
        return Verdict::Lens { focal, spread };
    }
    if is_good(&spread) {
        return Verdict::Good(spread);
    }
    if result.turned_rad[1] < WELL_TURNED_RAD {
        return Verdict::Turn {
            frame,
            about: Axis(result.axes.column(0).into_owned()),
            across_rad: result.turned_rad[1],
            spread,
        };
    }
    let (along, _) = weakest(&result.frame_from_camera, &result.covariance);
    Verdict::More {
        frame,
        along: Axis(along),
        views: more(&spread, &GOOD, result.used()),
        arm: result.arm,
        spread,
    }
}
