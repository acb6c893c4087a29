//! Which cameras there are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    device::{Device, Identity},
    error::V4l2Error,
    feed::is_stable,
    kernel::{Kernel, Offer},
};

/// A camera that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The name to write into a rig's file: one that stays, if there is one.
    pub name: PathBuf,
    /// Its device file.
    pub device: PathBuf,
    /// Driver, maker's name, where it is plugged in.
    pub identity: Identity,
    /// Formats, sizes and rates.
    pub offers: Vec<Offer>,
}

/// All devices that capture video, in the order of their numbers, and why one could not be asked.
/// Nodes for metadata and encoders, which many cameras have besides, are left out.
pub fn list() -> Vec<Result<Found, V4l2Error>> {
    let mut found: Vec<_> = devices(Path::new("/dev"))
        .into_iter()
        .map(|device| look_at(&device))
        .filter(|found| found.as_ref().map_or(true, |found| found.identity.captures))
        .collect();
    let cards: Vec<_> = found
        .iter()
        .flatten()
        .map(|f| f.identity.card.clone())
        .collect();
    let links = [
        links(Path::new("/dev/v4l/by-id")),
        links(Path::new("/dev/v4l/by-path")),
    ];
    for camera in found.iter_mut().flatten() {
        let twins = cards
            .iter()
            .filter(|card| **card == camera.identity.card)
            .count()
            > 1;
        if let Some(name) = stable_name(&camera.device, &links, twins) {
            camera.name = name;
        }
    }
    found
}

fn look_at(device: &Path) -> Result<Found, V4l2Error> {
    let open = |cause| V4l2Error::Open {
        device: device.to_owned(),
        cause,
    };
    let kernel = Kernel::open(device).map_err(open)?;
    let identity = kernel.identity().map_err(open)?;
    let offers = if identity.captures {
        kernel.offers().map_err(open)?
    } else {
        Vec::new()
    };
    Ok(Found {
        name: device.to_owned(),
        device: device.to_owned(),
        identity,
        offers,
    })
}

/// `video0`, `video1`, … in a folder.
fn devices(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut devices: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| !is_stable(path))
        .collect();
    // `video10` comes after `video9`.
    devices.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    devices
}

/// The names in a folder of links, and what they lead to.
fn links(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut links: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.path();
            let device = fs::canonicalize(&name).ok()?;
            Some((name, device))
        })
        .collect();
    links.sort();
    links
}

/// The name that stays with a camera: by its maker, model and serial number, or by the socket it is
/// in where it has a twin. Two of a kind without serial numbers share one name of the first kind,
/// and which of them has it is chance.
fn stable_name(
    device: &Path,
    [by_id, by_path]: &[Vec<(PathBuf, PathBuf)>; 2],
    twins: bool,
) -> Option<PathBuf> {
    let order = if twins {
        [by_path, by_id]
    } else {
        [by_id, by_path]
    };
    let mut links = order.into_iter().flatten();
    let link = links.find(|(_, leads_to)| leads_to == device)?;
    Some(link.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(links: &[(&str, &str)]) -> Vec<(PathBuf, PathBuf)> {
        let links = links.iter();
        links
            .map(|(name, device)| (name.into(), device.into()))
            .collect()
    }

    #[test]
    fn twins_are_told_apart_by_their_sockets() {
        let by_id = folder(&[("/id/C920", "/dev/video2")]);
        let by_path = folder(&[("/path/1", "/dev/video0"), ("/path/2", "/dev/video2")]);
        let links = [by_id, by_path];
        let name = |device: &str, twins| stable_name(Path::new(device), &links, twins);
        assert_eq!(name("/dev/video2", false), Some("/id/C920".into()));
        assert_eq!(name("/dev/video2", true), Some("/path/2".into()));
        assert_eq!(name("/dev/video0", false), Some("/path/1".into()));
        assert_eq!(name("/dev/video4", false), None);
    }

    #[test]
    fn devices_are_found_by_their_names_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["video10", "video2", "videocard", "video", "v4l-subdev0"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = devices(folder.path());
        let names: Vec<_> = found.iter().flat_map(|path| path.file_name()).collect();
        assert_eq!(names, ["video2", "video10"]);
        std::os::unix::fs::symlink("video2", folder.path().join("name")).unwrap();
        let links = links(folder.path());
        let device = fs::canonicalize(folder.path().join("video2")).unwrap();
        assert!(links.contains(&(folder.path().join("name"), device)));
        assert_eq!(super::devices(Path::new("/nowhere")), [] as [PathBuf; 0]);
    }
}
