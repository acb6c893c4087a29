//! Unpacks what is packed with xz: kernels, and modules of newer Debians.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};

const MAGIC: &[u8] = b"\xFD7zXZ\0";

/// What the first stream in `bytes` holds. Before it may be anything, and after it, as in a kernel's
/// boot image.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let at = bytes.windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
    let stream = &bytes[at.context("there is nothing packed with xz")?..];
    let mut xz = Command::new("xz")
        .args(["--decompress", "--stdout", "--single-stream"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run xz; install it with: apt-get install xz-utils")?;
    let mut input = xz.stdin.take().context("xz has no input")?;
    let out = thread::scope(|scope| {
        // It stops reading where the stream ends; whether it liked it, it says in the end.
        scope.spawn(move || input.write_all(stream));
        xz.wait_with_output()
    })
    .context("waiting for xz")?;
    ensure!(out.status.success(), "it does not unpack ({})", out.status);
    Ok(out.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "kernel" and a line's end, as `xz --check=crc32` packs it.
    const PACKED: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21,
        0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x06, 0x6b, 0x65, 0x72,
        0x6e, 0x65, 0x6c, 0x0a, 0x00, 0x00, 0x69, 0xae, 0x8e, 0x73, 0x00, 0x01, 0x1b, 0x07, 0x12,
        0xeb, 0xd4, 0x17, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];

    #[test]
    fn what_lies_around_the_stream_does_not_matter() {
        let image = [b"boot code", PACKED, &[0; 5000]].concat();
        assert_eq!(unpack(&image).unwrap(), b"kernel\n");
        assert_eq!(unpack(PACKED).unwrap(), b"kernel\n");
        assert!(unpack(&PACKED[..PACKED.len() - 20]).is_err());
        assert!(unpack(b"boot code").is_err());
    }
}
