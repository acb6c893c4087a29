//! Frames of HIL-SERL's files, which its `record_success_fail.py` writes: see [`hil_serl::labelled`].

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result};
use hilt_protocol::{CameraSpec, Image};
use hilt_recording::hil_serl::{self, Labelled};
use hilt_show::Show;
use image::RgbImage;

use super::image_folders::{self, Picture};
use crate::{dataset::LabelledFrames, stopped::Stopped};

/// A file or a folder of files, opened.
pub(super) struct Pickles {
    path: PathBuf,
    labelled: Labelled,
}

impl Pickles {
    /// All successes, or none, as `success` says; else the files say it.
    pub fn open(path: &Path, success: Option<bool>) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            labelled: hil_serl::labelled(path, success)?,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its cameras.
    pub fn keys(&self) -> Vec<String> {
        let cameras = self.labelled.cameras().iter();
        cameras.map(|camera| camera.name.clone()).collect()
    }

    /// Reads the images of some of its cameras. They are cut into `pieces` episodes. `note` is called for each
    /// image, with its camera's place.
    pub fn read(
        &self,
        cameras: &[CameraSpec],
        pieces: usize,
        stop: &AtomicBool,
        mut note: impl FnMut(usize, &Picture),
    ) -> Result<LabelledFrames> {
        let keys = self.keys();
        let place = |camera: &CameraSpec| {
            let place = keys.iter().position(|key| *key == camera.name);
            place.with_context(|| {
                format!(
                    "{} has no camera {}, its cameras are {}: name some of these by --image-keys",
                    self.path.display(),
                    camera.name,
                    keys.join(", ")
                )
            })
        };
        let places: Vec<usize> = cameras.iter().map(place).collect::<Result<_>>()?;
        let count = self.labelled.len();
        let mut show = Show::new("images", Some(count as u64));
        let mut frames = LabelledFrames::default();
        for (i, frame) in self.labelled.frames().enumerate() {
            show.stand(i as u64, || format!("images of {}", self.path.display()));
            Stopped::check(stop, super::command::STOPPED)?;
            let frame = frame?;
            let mut images = Vec::with_capacity(places.len());
            for (k, (&place, camera)) in places.iter().zip(cameras).enumerate() {
                let picture = of_camera(&frame.images[place], camera)?;
                note(k, &picture);
                images.push(picture.rgb);
            }
            frames.push(images, frame.success, (i * pieces / count) as u64);
        }
        show.end();
        Ok(frames)
    }
}

fn of_camera(image: &Image, camera: &CameraSpec) -> Result<Picture> {
    let (width, height) = (image.width, image.height);
    if (width, height) == (camera.width, camera.height) {
        return Ok(Picture {
            rgb: image.rgb.clone(),
            in_file: (width, height),
        });
    }
    let whole = RgbImage::from_raw(width, height, image.rgb.to_vec());
    let whole = whole.context("an image has as many bytes as pixels")?;
    Ok(image_folders::of_size(whole, camera.width, camera.height))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use hilt_protocol::{
        ActionSource, Axis, Entry, Observation, Record, RigSpec, RunId, SetupMode, Step,
    };
    use hilt_recording::hil_serl::HilSerlError;

    use super::*;

    fn camera(name: &str, height: u32, width: u32) -> CameraSpec {
        CameraSpec {
            name: name.into(),
            height,
            width,
        }
    }

    /// A file of six rows, whose observations are images of one level each.
    pub fn write(path: &Path) {
        let spec = RigSpec {
            mode: SetupMode::SingleArmFixedGripper,
            controlled_axes: vec![Axis::X],
            cameras: vec![camera("front", 32, 32), camera("wrist", 24, 16)],
            proprio: vec![],
            policy_hz: 10,
        };
        let entry = |sequence: u64| {
            let image = |camera: &CameraSpec| Image {
                captured_ns: 0,
                height: camera.height,
                width: camera.width,
                rgb: vec![10 * sequence as u8; (camera.height * camera.width * 3) as usize].into(),
            };
            let seen = Observation {
                captured_ns: 0,
                proprio: vec![],
                images: spec.cameras.iter().map(image).collect(),
            };
            let record = match sequence {
                0 => Record::Reset(seen),
                _ => Record::Step(Step {
                    action: vec![0.0],
                    source: ActionSource::Human,
                    reward: 0.0,
                    grasp_penalty: 0.0,
                    terminated: false,
                    truncated: false,
                    label: None,
                    policy_version: 0,
                    noise_seed: 0,
                    next: seen,
                }),
            };
            Ok::<_, HilSerlError>(Entry {
                run: RunId(1),
                sequence,
                episode: 0,
                index: sequence as u32,
                record,
            })
        };
        assert_eq!(hil_serl::write(path, &spec, (0..7).map(entry)).unwrap(), 6);
    }

    #[test]
    fn frames_are_those_of_the_cameras_that_count_at_their_size() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["task_6_success_images.pkl", "task_failure_images.pkl"] {
            write(&dir.path().join(name));
        }
        let pickles = Pickles::open(dir.path(), None).unwrap();
        assert_eq!(pickles.keys(), ["front", "wrist"]);
        let (stop, mut sizes) = (AtomicBool::new(false), vec![]);
        let cameras = [camera("wrist", 48, 48), camera("front", 32, 32)];
        let note = |k: usize, picture: &Picture| sizes.push((k, picture.in_file));
        let frames = pickles.read(&cameras, 3, &stop, note).unwrap();
        assert_eq!(sizes[..2], [(0, (16, 24)), (1, (32, 32))]);
        assert_eq!((frames.len(), frames.positives()), (12, 6));
        assert_eq!(frames.episode, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
        // The observation of row 5 of the second file.
        assert_eq!(frames.images[11][0][..], [50; 48 * 48 * 3]);
        assert_eq!(frames.images[11][1][..], [50; 32 * 32 * 3]);

        let other = pickles.read(&[camera("side", 32, 32)], 3, &stop, |_, _| ());
        let error = other.unwrap_err().to_string();
        assert!(
            error.contains("no camera side") && error.contains("front, wrist"),
            "{error}"
        );
        fs::remove_file(dir.path().join("task_failure_images.pkl")).unwrap();
        let error = Pickles::open(dir.path(), Some(false))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("success_images.pkl"), "{error}");
    }
}
