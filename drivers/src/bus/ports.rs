//! The serial ports that there are, and how soon an adapter hands on what it receives.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The most that an FTDI adapter may keep bytes to itself, milliseconds: with its default of 16 no
/// tick would have its reply in time.
pub(super) const LATENCY_TIMER_MS: u32 = 1;

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name to put into a rig's file: one that stays when it is plugged in again
    /// (`/dev/serial/by-id/…`), where there is one.
    pub path: PathBuf,
    /// The device, as `/dev/ttyACM0`.
    pub device: PathBuf,
}

/// The serial ports at USB, those with a name that stays first; each once.
pub fn ports() -> io::Result<Vec<Port>> {
    ports_in(Path::new("/dev"))
}

/// The same in another folder than `/dev`.
pub fn ports_in(dev: &Path) -> io::Result<Vec<Port>> {
    let mut ports: Vec<Port> = Vec::new();
    let by_id = names(&dev.join("serial/by-id"))?.into_iter();
    let plain = names(dev)?.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ttyUSB") || name.starts_with("ttyACM")
    });
    for path in by_id.chain(plain) {
        // A link that leads nowhere is a port that was just pulled.
        let Ok(device) = fs::canonicalize(&path) else {
            continue;
        };
        if ports.iter().all(|port| port.device != device) {
            ports.push(Port { path, device });
        }
    }
    Ok(ports)
}

/// What is in a folder, in order; nothing where there is none.
fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Makes an FTDI adapter hand on at once what it receives: by its timer in `sys`, or else by
/// `low_latency`, which asks the driver. Other adapters have no such timer. Otherwise the
/// milliseconds that it goes on to keep bytes.
pub(super) fn quicken(
    sys: &Path,
    port: &str,
    low_latency: impl FnOnce() -> bool,
) -> Result<(), u32> {
    let device = fs::canonicalize(port).unwrap_or_else(|_| port.into());
    let Some(name) = device.file_name() else {
        return Ok(());
    };
    let devices = sys.join("bus/usb-serial/devices");
    let timer = devices.join(name).join("latency_timer");
    let read = || {
        let text = fs::read_to_string(&timer).ok()?;
        let ms: u32 = text.trim().parse().ok()?;
        (ms > LATENCY_TIMER_MS).then_some(ms)
    };
    if read().is_none() {
        return Ok(());
    }
    // Refused to users: then the driver may still grant it.
    let _ = fs::write(&timer, LATENCY_TIMER_MS.to_string());
    match read() {
        Some(ms) if !low_latency() => Err(ms),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_that_stay_come_first_and_each_port_once() {
        let dev = tempfile::tempdir().unwrap();
        let dev = dev.path().canonicalize().unwrap();
        assert_eq!(ports_in(&dev).unwrap(), []);
        for name in ["ttyACM1", "ttyACM0", "ttyUSB0", "ttyS0", "tty"] {
            fs::write(dev.join(name), "").unwrap();
        }
        let by_id = dev.join("serial/by-id");
        fs::create_dir_all(&by_id).unwrap();
        symlink("../../ttyACM1", by_id.join("usb-1a86_USB_Single_Serial")).unwrap();
        symlink("../../ttyACM9", by_id.join("usb-pulled")).unwrap();
        let found = ports_in(&dev).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|port| (port.path.as_path(), port.device.as_path()))
            .collect();
        let named = by_id.join("usb-1a86_USB_Single_Serial");
        let [acm0, acm1, usb0] = ["ttyACM0", "ttyACM1", "ttyUSB0"].map(|name| dev.join(name));
        let expected = [
            (named.as_path(), acm1.as_path()),
            (&acm0, &acm0),
            (&usb0, &usb0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_ftdi_adapter_is_quickened_or_named() {
        let sys = tempfile::tempdir().unwrap();
        let place = sys.path().join("bus/usb-serial/devices/ttyUSB3");
        fs::create_dir_all(&place).unwrap();
        let timer = place.join("latency_timer");
        let never = || panic!("it is not needed");
        // Another kind of adapter.
        assert_eq!(quicken(sys.path(), "/dev/ttyACM0", never), Ok(()));
        for before in ["1\n", "16\n"] {
            fs::write(&timer, before).unwrap();
            assert_eq!(quicken(sys.path(), "/dev/ttyUSB3", never), Ok(()));
            assert_eq!(fs::read_to_string(&timer).unwrap().trim(), "1");
        }
        // One whose timer does not take it: here, because it is no plain file.
        fs::remove_file(&timer).unwrap();
        let stays = sys.path().join("stays");
        fs::write(&stays, "16").unwrap();
        let mut permissions = fs::metadata(&stays).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&stays, permissions).unwrap();
        symlink(&stays, &timer).unwrap();
        if fs::write(&stays, "16").is_err() {
            assert_eq!(quicken(sys.path(), "/dev/ttyUSB3", || true), Ok(()));
            assert_eq!(quicken(sys.path(), "/dev/ttyUSB3", || false), Err(16));
        }
    }
}
