//! What a rig's file says of a camera.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::{Mode, PixelFormat};

/// A camera of the kernel, as a rig's file names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V4l2Config {
    /// The device's file. `/dev/video0` may be another camera after the next start: use the name
    /// below `/dev/v4l/by-id` or `/dev/v4l/by-path` that `hilt find-cameras` shows.
    pub device: PathBuf,
    /// Columns that the device is asked for.
    pub width: u32,
    /// Rows that the device is asked for.
    pub height: u32,
    /// Frames per second that the device is asked for.
    pub fps: u32,
    /// How the device codes its pixels.
    #[serde(default)]
    pub format: PixelFormat,
    /// What the policy sees of the device's frame.
    #[serde(default)]
    pub crop: Crop,
    /// What is not left to the device.
    #[serde(default)]
    pub controls: Controls,
}

impl V4l2Config {
    /// Format and size that the device is asked for.
    pub fn mode(&self) -> Mode {
        Mode {
            format: self.format.code(),
            width: self.width,
            height: self.height,
        }
    }
}

/// What the policy sees of the device's frame; it is resized to the policy's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The greatest part around the centre that has the shape of the policy's image.
    #[default]
    Centre,
    /// All of it, squeezed into the shape of the policy's image.
    Whole,
    /// A part of it, in pixels of the device's frame.
    Rectangle(Rectangle),
}

/// A part of a frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Crop {
    /// The part of a frame of `width` and `height` that becomes an image of `to_width` and
    /// `to_height`; nothing where there is no such part.
    pub fn of(self, width: u32, height: u32, to_width: u32, to_height: u32) -> Option<Rectangle> {
        let whole = Rectangle {
            x: 0,
            y: 0,
            width,
            height,
        };
        let part = match self {
            Self::Whole => whole,
            Self::Rectangle(part) => part,
            Self::Centre => {
                let share = |of: u32, by: u32, per: u32| {
                    let share = u64::from(of) * u64::from(by) / u64::from(per.max(1));
                    u32::try_from(share).unwrap_or(u32::MAX)
                };
                let part_width = width.min(share(height, to_width, to_height));
                let part_height = height.min(share(width, to_height, to_width));
                Rectangle {
                    x: (width - part_width) / 2,
                    y: (height - part_height) / 2,
                    width: part_width,
                    height: part_height,
                }
            }
        };
        let fits = |first: u32, size: u32, end: u32| {
            size > 0 && first.checked_add(size).is_some_and(|last| last <= end)
        };
        let inside = fits(part.x, part.width, width) && fits(part.y, part.height, height);
        inside.then_some(part)
    }
}

/// What is fixed, so that pictures of the same thing look the same on another day. What is not
/// given is left as the device has it, which may be what the last program set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controls {
    /// Exposure time, microseconds, to the nearest 100; turns automatic exposure off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure_us: Option<u32>,
    /// Gain, in the device's own numbers; turns automatic gain off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<i32>,
    /// White balance, kelvin; turns automatic white balance off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub white_balance_k: Option<i32>,
    /// Focus, in the device's own numbers; turns autofocus off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<i32>,
    /// The lamps' mains, against flicker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_line: Option<PowerLine>,
    /// Whether automatic exposure may lower the frame rate in the dark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower_in_the_dark: Option<bool>,
    /// Brightness, in the device's own numbers, as all that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brightness: Option<i32>,
    /// Contrast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<i32>,
    /// Saturation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saturation: Option<i32>,
    /// Sharpness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharpness: Option<i32>,
    /// Gamma.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<i32>,
    /// Backlight compensation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlight: Option<i32>,
}

/// Frequency of the mains that lamps flicker with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PowerLine {
    /// The camera does nothing against it.
    #[serde(rename = "off")]
    Off,
    /// Europe, most of Asia and Africa.
    #[serde(rename = "50hz")]
    Hz50,
    /// The Americas.
    #[serde(rename = "60hz")]
    Hz60,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(x: u32, y: u32, width: u32, height: u32) -> Rectangle {
        Rectangle {
            x,
            y,
            width,
            height,
        }
    }

    #[test]
    fn the_centre_has_the_shape_of_the_policys_image() {
        let of = |w, h, to_w, to_h| Crop::Centre.of(w, h, to_w, to_h).unwrap();
        assert_eq!(of(640, 480, 128, 128), part(80, 0, 480, 480));
        assert_eq!(of(480, 640, 128, 128), part(0, 80, 480, 480));
        assert_eq!(of(640, 480, 160, 90), part(0, 60, 640, 360));
        assert_eq!(of(640, 360, 640, 360), part(0, 0, 640, 360));
        assert_eq!(Crop::Centre.of(2, 2, 0, 1), None);
    }

    #[test]
    fn a_part_lies_within_the_frame() {
        let of = |r| Crop::Rectangle(r).of(640, 480, 64, 64);
        assert_eq!(of(part(600, 0, 40, 480)), Some(part(600, 0, 40, 480)));
        assert_eq!(of(part(601, 0, 40, 480)), None);
        assert_eq!(of(part(0, 0, 640, 481)), None);
        assert_eq!(of(part(u32::MAX, 0, 2, 480)), None);
        assert_eq!(of(part(0, 0, 0, 480)), None);
    }

    #[test]
    fn a_rigs_file_can_say_all_of_it() {
        let text = r#"
            device = "/dev/v4l/by-id/usb-C920-index0"
            width = 640
            height = 480
            fps = 30
            format = "mjpeg"
            crop = { rectangle = { x = 80, y = 0, width = 480, height = 480 } }
            controls = { exposure_us = 10000, white_balance_k = 4600 }
        "#;
        let config: V4l2Config = toml::from_str(text).unwrap();
        assert_eq!(config.mode().to_string(), "640x480 MJPG");
        assert_eq!(config.crop, Crop::Rectangle(part(80, 0, 480, 480)));
        assert_eq!(config.controls.exposure_us, Some(10_000));
        let again: V4l2Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let short = r#"device = "/dev/video0"
            width = 640
            height = 480
            fps = 30
            exposure = 3"#;
        let error = toml::from_str::<V4l2Config>(short).unwrap_err();
        assert!(error.to_string().contains("exposure"), "{error}");
    }
}
