//! Folders of images that are all successes, or all failures: what the reward classifier learns
//! from besides run logs.
//!
//! One folder per image key, and in it one PNG or JPEG file per moment; files of the same stem are
//! the same moment. With a single key the images may lie in the folder itself:
//!
//! ```text
//! successes/front/0001.png     or, with one key,     successes/0001.png
//! successes/wrist/0001.jpg
//! ```
//!
//! Nothing is guessed: whatever does not fit is an error, for a frame that is silently left out, or
//! half grey, is found weeks later. Only hidden files, and folders of other keys, are left alone.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{
    ImageError, ImageFormat, ImageReader, RgbImage,
    imageops::{FilterType, resize},
};

/// Why images cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("{path}: {fault}")]
    Io {
        /// What it refused.
        path: PathBuf,
        /// Why.
        fault: io::Error,
    },
    /// A folder without images.
    #[error("{0} holds no image; put the PNG or JPEG files there")]
    Empty(PathBuf),
    /// A key has no folder.
    #[error(
        "{dir} has no folder `{key}`: put that camera's images there, or leave the key out of \
         --image-keys"
    )]
    KeyMissing {
        /// Where it should be.
        dir: PathBuf,
        /// The key.
        key: String,
    },
    /// Something else among the images.
    #[error("{0} is not named as an image (.png, .jpg, .jpeg); convert it, or move it away")]
    Stranger(PathBuf),
    /// Two files of one moment for one key.
    #[error("{0} and {1} would be the same moment of one camera; move one of them away")]
    Twice(PathBuf, PathBuf),
    /// A moment that another key does not have.
    #[error(
        "{path} has no image of the same moment in {elsewhere}; put {stem}.png or {stem}.jpg there, \
         or move this one away"
    )]
    Alone {
        /// The file without a partner.
        path: PathBuf,
        /// The folder without the moment.
        elsewhere: PathBuf,
        /// Name of the moment.
        stem: String,
    },
    /// It is not what it is named, or it is damaged.
    #[error("{path} cannot be read as an image ({fault}); save it anew, or move its moment away")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        fault: ImageError,
    },
    /// It ends too early.
    #[error("{0} is a JPEG file that was cut off; save it anew, or move its moment away")]
    Cut(PathBuf),
    /// A format that is not read.
    #[error("{0} is neither PNG nor JPEG inside; convert it, or move its moment away")]
    Format(PathBuf),
}

/// The files of one moment, in the order of the keys.
pub type Moment = Vec<PathBuf>;

/// An image as the classifier gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// RGB, row-major (height, width, 3), of the size that was asked for.
    pub rgb: Arc<[u8]>,
    /// Width and height in the file, pixels.
    pub in_file: (u32, u32),
}

/// The moments of a folder, sorted by name. There is at least one, and all files are there; they
/// are not opened.
pub fn moments(dir: &Path, keys: &[String]) -> Result<Vec<Moment>, FolderError> {
    let folders = key_folders(dir, keys)?;
    let by_key: Vec<BTreeMap<OsString, PathBuf>> = (folders.iter())
        .map(|folder| images(folder))
        .collect::<Result<_, _>>()?;
    for images in &by_key {
        for (stem, path) in images {
            let without = by_key.iter().position(|other| !other.contains_key(stem));
            if let Some(k) = without {
                return Err(FolderError::Alone {
                    path: path.clone(),
                    elsewhere: folders[k].clone(),
                    stem: stem.to_string_lossy().into_owned(),
                });
            }
        }
    }
    let Some(first) = by_key.first() else {
        return Ok(Vec::new());
    };
    let moment = |stem| {
        let files = by_key.iter().filter_map(|images| images.get(stem));
        files.cloned().collect()
    };
    Ok(first.keys().map(moment).collect())
}

/// The folder of each key.
fn key_folders(dir: &Path, keys: &[String]) -> Result<Vec<PathBuf>, FolderError> {
    // For a missing folder the system's own words say it best.
    list(dir)?;
    let of = |key: &String| {
        let folder = dir.join(key);
        match folder.is_dir() {
            true => Ok(folder),
            false if keys.len() == 1 => Ok(dir.to_owned()),
            false => Err(FolderError::KeyMissing {
                dir: dir.to_owned(),
                key: key.clone(),
            }),
        }
    };
    keys.iter().map(of).collect()
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let named = |fault| FolderError::Io {
        path: dir.to_owned(),
        fault,
    };
    let entries = fs::read_dir(dir).map_err(named)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(named))
        .collect()
}

/// The images of one key by stem.
fn images(dir: &Path) -> Result<BTreeMap<OsString, PathBuf>, FolderError> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for path in list(dir)? {
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let (Some(stem), true) = (
            path.file_stem(),
            path.is_file() && ["png", "jpg", "jpeg"].iter().any(|known| ending == *known),
        ) else {
            return Err(FolderError::Stranger(path));
        };
        if let Some(other) = found.insert(stem.to_owned(), path.clone()) {
            let (one, two) = (other.clone().min(path.clone()), other.max(path));
            return Err(FolderError::Twice(one, two));
        }
    }
    if found.is_empty() {
        return Err(FolderError::Empty(dir.to_owned()));
    }
    Ok(found)
}

/// Reads an image. One of another size is resized as a whole, with a triangle filter that widens
/// when shrinking, as the encoder resizes; a transparent one loses its transparency.
pub fn read(path: &Path, width: u32, height: u32) -> Result<Picture, FolderError> {
    let bytes = fs::read(path).map_err(|fault| FolderError::Io {
        path: path.to_owned(),
        fault,
    })?;
    let damaged = |fault| FolderError::Damaged {
        path: path.to_owned(),
        fault,
    };
    let format = image::guess_format(&bytes).map_err(damaged)?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Err(FolderError::Format(path.to_owned()));
    }
    let decoded = ImageReader::with_format(Cursor::new(&bytes), format)
        .decode()
        .map_err(damaged)?
        .into_rgb8();
    if format == ImageFormat::Jpeg && !jpeg_ends(&bytes) {
        return Err(FolderError::Cut(path.to_owned()));
    }
    Ok(of_size(decoded, width, height))
}

/// An image as a whole at another size, if it has not got it.
pub(super) fn of_size(image: RgbImage, width: u32, height: u32) -> Picture {
    let in_file = image.dimensions();
    let rgb = if in_file == (width, height) {
        image
    } else {
        resize(&image, width, height, FilterType::Triangle)
    };
    Picture {
        rgb: rgb.into_raw().into(),
        in_file,
    }
}

/// Whether an end marker follows the last scan. The decoder fills what is missing with grey and
/// says nothing. Inside a scan the byte 0xFF is always followed by 0 or by a restart's number
/// (ITU-T T.81, B.1.1.5), so that markers can be searched for; before it a thumbnail may have
/// markers of its own.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const SCAN: [u8; 2] = [0xFF, 0xDA];
    const END: [u8; 2] = [0xFF, 0xD9];
    let scan = bytes.windows(2).rposition(|two| two == SCAN).unwrap_or(0);
    bytes[scan..].windows(2).any(|two| two == END)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    /// A horizontal ramp: no two columns are the same.
    fn ramp(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 3) as u8, (y * 5) as u8, ((x * y) % 251) as u8])
        })
    }

    fn save(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        ramp(24, 16).save(path).unwrap();
    }

    /// The error, which must say all of these words.
    fn refused(result: Result<impl std::fmt::Debug, FolderError>, words: &[&str]) {
        let error = result.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
    }

    #[test]
    fn the_same_stem_is_the_same_moment() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["front/b.png", "front/a.png", "wrist/a.JPG", "wrist/b.jpeg"] {
            save(&at(name));
        }
        fs::write(at("wrist/.hidden"), "").unwrap();
        save(&at("side/other.png"));
        let found = moments(dir.path(), &keys(&["wrist", "front"])).unwrap();
        let wanted = [
            [at("wrist/a.JPG"), at("front/a.png")],
            [at("wrist/b.jpeg"), at("front/b.png")],
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn one_key_needs_no_folder_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let flat = dir.path().join("flat");
        save(&flat.join("1.png"));
        let found = moments(&flat, &keys(&["front"])).unwrap();
        assert_eq!(found, [[flat.join("1.png")]]);
        let nested = dir.path().join("nested");
        save(&nested.join("front/1.png"));
        let found = moments(&nested, &keys(&["front"])).unwrap();
        assert_eq!(found, [[nested.join("front/1.png")]]);
    }

    #[test]
    fn folders_that_do_not_fit_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let both = keys(&["front", "wrist"]);
        refused(moments(&at("nowhere"), &both), &["nowhere"]);
        save(&at("front/1.png"));
        refused(
            moments(dir.path(), &both),
            &["no folder `wrist`", "--image-keys"],
        );
        fs::create_dir(at("wrist")).unwrap();
        refused(
            moments(dir.path(), &both),
            &["wrist holds no image", "put the PNG"],
        );
        save(&at("wrist/2.png"));
        refused(
            moments(dir.path(), &both),
            &["front/1.png has no", "in", "wrist", "put 1.png"],
        );
        save(&at("wrist/1.png"));
        refused(moments(dir.path(), &both), &["wrist/2.png has no", "front"]);
        save(&at("front/2.png"));
        assert_eq!(moments(dir.path(), &both).unwrap().len(), 2);
        save(&at("front/2.jpg"));
        refused(
            moments(dir.path(), &both),
            &["front/2.jpg and", "front/2.png", "move one of them away"],
        );
        fs::rename(at("front/2.jpg"), at("front/2.bmp")).unwrap();
        refused(moments(dir.path(), &both), &["front/2.bmp", "convert it"]);
        fs::remove_file(at("front/2.bmp")).unwrap();
        fs::create_dir(at("front/more.png")).unwrap();
        refused(moments(dir.path(), &both), &["front/more.png"]);
    }

    #[test]
    fn images_come_as_they_are_when_they_fit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.png");
        save(&path);
        let picture = read(&path, 24, 16).unwrap();
        assert_eq!(picture.rgb[..], ramp(24, 16).into_raw()[..]);
        assert_eq!(picture.in_file, (24, 16));
    }

    /// Stripes of one pixel become grey: every pixel has its part, none is just left out.
    #[test]
    fn images_of_another_size_are_shrunk_with_all_their_pixels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.png");
        let stripes = |x, _| Rgb([if x % 2 == 0 { 0 } else { 200 }; 3]);
        RgbImage::from_fn(64, 64, stripes).save(&path).unwrap();
        let picture = read(&path, 16, 8).unwrap();
        assert_eq!((picture.rgb.len(), picture.in_file), (16 * 8 * 3, (64, 64)));
        let inner = picture.rgb.chunks(16 * 3).flat_map(|row| &row[3..15 * 3]);
        assert!(inner.clone().all(|&v| (95..=105).contains(&v)));
    }

    #[test]
    fn grey_deep_and_transparent_images_become_rgb() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.png");
        let grey = image::ImageBuffer::from_pixel(4, 4, image::Luma([0x8000u16]));
        grey.save(&path).unwrap();
        assert_eq!(read(&path, 4, 4).unwrap().rgb[..], [128; 48]);
        let clear = image::RgbaImage::from_pixel(4, 4, image::Rgba([7, 7, 7, 0]));
        clear.save(&path).unwrap();
        assert_eq!(read(&path, 4, 4).unwrap().rgb[..], [7; 48]);
    }

    #[test]
    fn damaged_images_are_refused_by_name_wherever_they_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1.png", "1.jpg"] {
            let path = dir.path().join(name);
            ramp(64, 48).save(&path).unwrap();
            assert_eq!(read(&path, 64, 48).unwrap().in_file, (64, 48));
            let whole = fs::read(&path).unwrap();
            // The last bytes of a PNG file are its end mark: all pixels are there without them.
            let last = whole.len() - if name == "1.png" { 16 } else { 1 };
            for cut in (0..last).step_by(37).chain([last]) {
                fs::write(&path, &whole[..cut]).unwrap();
                refused(read(&path, 64, 48), &[name, "save it anew"]);
            }
            // Some cameras pad their files.
            fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
            assert!(read(&path, 64, 48).is_ok());
        }
        let path = dir.path().join("1.png");
        fs::write(&path, "no image at all").unwrap();
        refused(read(&path, 4, 4), &["1.png", "save it anew"]);
        fs::write(&path, b"GIF89a\x01\x00\x01\x00\x00\x00\x00;").unwrap();
        refused(read(&path, 4, 4), &["1.png", "neither PNG nor JPEG"]);
    }
}
