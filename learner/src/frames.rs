//! Frames of which there may be more than fit into memory: in a file, from which some are drawn at a time. What is used
//! again and again the system keeps in memory as far as there is room.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use hilt_protocol::{CameraSpec, Image};
use tch::Tensor;

/// Frames of observations, one RGB image (height, width, 3) per camera.
#[derive(Debug)]
pub struct Frames {
    file: File,
    /// Where it had a name.
    path: PathBuf,
    cameras: Vec<CameraSpec>,
    count: u64,
}

impl Frames {
    /// Without any yet. Their file lies in the folder `dir` and has no name: it is gone when this is, or the process.
    ///
    /// # Errors
    /// What the system said.
    pub fn begin(dir: &Path, cameras: &[CameraSpec]) -> io::Result<Self> {
        let path = hilt_recording::beside(&dir.join("frames"));
        let opened = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .and_then(|file| fs::remove_file(&path).map(|()| file));
        Ok(Self {
            file: opened.map_err(|error| not_kept(&path, &error))?,
            path,
            cameras: cameras.to_vec(),
            count: 0,
        })
    }

    /// Adds those of an observation.
    ///
    /// # Errors
    /// Images that are not of the cameras; a full disk.
    pub fn push(&mut self, images: &[Image]) -> io::Result<()> {
        let fits = images.len() == self.cameras.len()
            && (images.iter().zip(&self.cameras)).all(|(image, camera)| {
                (image.height, image.width) == (camera.height, camera.width)
                    && image.rgb.len() == bytes(camera)
            });
        if !fits {
            let what = "an observation's frames are not those of the rig's cameras";
            return Err(io::Error::other(what));
        }
        for image in images {
            (self.file.write_all(&image.rgb)).map_err(|error| not_kept(&self.path, &error))?;
        }
        self.count += 1;
        Ok(())
    }

    /// Those of some observations, by their places from 0: of each camera \[n, H, W, 3\].
    ///
    /// # Errors
    /// What the system said.
    pub fn of(&self, places: &[i64]) -> io::Result<Vec<Tensor>> {
        let all: usize = self.cameras.iter().map(bytes).sum();
        let mut before = 0;
        let mut images = vec![];
        for camera in &self.cameras {
            let size = bytes(camera);
            let mut pixels = vec![0; size * places.len()];
            for (image, &place) in pixels.chunks_exact_mut(size).zip(places) {
                let at = place as u64 * all as u64 + before;
                let read = self.file.read_exact_at(image, at);
                read.map_err(|e| {
                    io::Error::new(e.kind(), format!("{}: {e}", self.path.display()))
                })?;
            }
            before += size as u64;
            let (height, width) = (i64::from(camera.height), i64::from(camera.width));
            images.push(Tensor::from_slice(&pixels).view([-1, height, width, 3]));
        }
        Ok(images)
    }

    /// Of how many observations.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn bytes(camera: &CameraSpec) -> usize {
    camera.height as usize * camera.width as usize * 3
}

fn not_kept(path: &Path, error: &io::Error) -> io::Error {
    let remedy = "all frames wait there while they are learned from: free some space or choose another folder with --out";
    io::Error::new(
        error.kind(),
        format!("{}: {error}; {remedy}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(name: &str, height: u32, width: u32) -> CameraSpec {
        CameraSpec {
            name: name.into(),
            height,
            width,
        }
    }

    /// Of one level.
    fn images(cameras: &[CameraSpec], level: u8) -> Vec<Image> {
        let image = |(k, camera): (usize, &CameraSpec)| Image {
            captured_ns: 0,
            height: camera.height,
            width: camera.width,
            rgb: vec![level + k as u8; bytes(camera)].into(),
        };
        cameras.iter().enumerate().map(image).collect()
    }

    #[test]
    fn what_was_put_in_comes_out_in_any_order_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cameras = [camera("front", 16, 16), camera("wrist", 20, 24)];
        let mut frames = Frames::begin(dir.path(), &cameras).unwrap();
        assert!(frames.is_empty());
        for level in 0..5 {
            frames.push(&images(&cameras, 10 * level)).unwrap();
        }
        assert_eq!(frames.len(), 5);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let drawn = frames.of(&[3, 0, 3]).unwrap();
        assert_eq!(drawn[1].size(), [3, 20, 24, 3]);
        for (k, levels) in [[30, 0, 30], [31, 1, 31]].into_iter().enumerate() {
            for (row, level) in levels.into_iter().enumerate() {
                let wrong = drawn[k].get(row as i64).not_equal(level).any();
                assert_eq!(wrong.int64_value(&[]), 0, "camera {k}, row {row}");
            }
        }
        assert!(frames.of(&[5]).is_err());
    }

    #[test]
    fn other_cameras_frames_and_folders_that_are_not_there_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cameras = [camera("front", 16, 16)];
        let mut frames = Frames::begin(dir.path(), &cameras).unwrap();
        for other in [vec![], images(&[camera("front", 16, 24)], 0)] {
            assert!(frames.push(&other).is_err());
        }
        assert!(frames.is_empty());
        let error = Frames::begin(&dir.path().join("none"), &cameras).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("none/frames") && error.contains("--out"),
            "{error}"
        );
    }
}
