//! Writes what the kernel unpacks into its first file system: a cpio archive in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// An archive that is being written. Paths are relative to the root; folders above a file are made
/// as they are needed.
pub struct Archive<W> {
    out: W,
    entries: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            entries: 0,
            folders: BTreeSet::new(),
        }
    }

    /// A folder and those above it.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let folder = &path[..end];
            if !folder.is_empty() && self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, (0, 0), b"")?;
            }
        }
        Ok(())
    }

    /// A file that may be executed.
    pub fn file(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.entry(path, PROGRAM, (0, 0), data)
    }

    /// The console's device node, which the kernel opens for its first program.
    pub fn console(&mut self) -> io::Result<()> {
        self.above("dev/console")?;
        self.entry("dev/console", CONSOLE, (5, 1), b"")
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        self.out.flush()
    }

    fn above(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((folder, _)) => self.folder(folder),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(data.len())
            .map_err(|_| io::Error::other(format!("{path} is too big for a cpio archive")))?;
        // Inode, mode, owner, group, links, time, size, device twice, length of the name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0,
        ];
        let mut head = String::from("070701");
        for field in fields {
            head += &format!("{field:08X}");
        }
        head += path;
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(data)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.out.write_all(&[0; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, mode and data of every entry.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let text = std::str::from_utf8(&bytes[..110]).unwrap();
            assert_eq!(&text[..6], "070701");
            let field =
                |i: usize| u32::from_str_radix(&text[6 + 8 * i..14 + 8 * i], 16).unwrap() as usize;
            let (mode, size, name) = (field(1), field(6), field(11));
            let path = std::str::from_utf8(&bytes[110..110 + name - 1]).unwrap();
            assert_eq!(bytes[110 + name - 1], 0);
            let data = (110 + name).next_multiple_of(4);
            entries.push((
                path.to_owned(),
                mode as u32,
                bytes[data..data + size].to_vec(),
            ));
            bytes = &bytes[(data + size).next_multiple_of(4)..];
        }
        entries
    }

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("lib/udev/rules.d/50.rules", b"rule").unwrap();
        archive.file("lib/udev/v4l_id", b"12345").unwrap();
        archive.folder("proc").unwrap();
        archive.finish().unwrap();
        let entries = entries(&bytes);
        let paths: Vec<_> = entries.iter().map(|entry| entry.0.as_str()).collect();
        let wanted = [
            "lib",
            "lib/udev",
            "lib/udev/rules.d",
            "lib/udev/rules.d/50.rules",
            "lib/udev/v4l_id",
            "proc",
            "TRAILER!!!",
        ];
        assert_eq!(paths, wanted);
        assert_eq!(entries[0].1, FOLDER);
        assert_eq!((entries[4].1, &entries[4].2[..]), (PROGRAM, &b"12345"[..]));
        assert_eq!(bytes.len() % 4, 0);
    }
}
