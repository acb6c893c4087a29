//! Packages of Debian's registry, fetched without being installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// What a command prints.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let out = command
        .output()
        .with_context(|| format!("cannot run {program:?}; the machine is made of packages of Debian, so this needs a Debian system (a container will do)"))?;
    ensure!(
        out.status.success(),
        "{command:?} failed ({}): {}",
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    );
    String::from_utf8(out.stdout).with_context(|| format!("{program:?} printed no text"))
}

/// A field of a package's newest version, as `Depends`; `None` if it has none.
pub fn field(package: &str, field: &str) -> Result<Option<String>> {
    let record = output(Command::new("apt-cache").args(["show", "--no-all-versions", package]))
        .with_context(|| format!("no package {package} is known; run as root: apt-get update"))?;
    Ok(find_field(&record, field))
}

fn find_field(record: &str, field: &str) -> Option<String> {
    let mut fields = record.lines().filter_map(|line| line.split_once(": "));
    fields
        .find(|(name, _)| *name == field)
        .map(|(_, value)| value.trim().to_owned())
}

/// The first package of a list of dependencies that begins so.
pub fn dependency(list: &str, begin: &str) -> Option<String> {
    let names = list
        .split([',', '|'])
        .filter_map(|entry| entry.split_whitespace().next());
    let mut matching = names.filter(|name| name.starts_with(begin));
    matching.next().map(str::to_owned)
}

/// Refreshes the list of packages where that is allowed; it may be old otherwise.
pub fn refresh() {
    // Refused to who is not root, and without a network; what is there may be good enough.
    let _ = Command::new("apt-get").args(["update", "-qq"]).output();
}

/// Fetches the newest version of `packages` into an empty `folder`; apt checks their signatures.
pub fn fetch(packages: &[String], folder: &Path) -> Result<()> {
    output(
        Command::new("apt-get")
            // Its unprivileged user may not write here.
            .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(folder),
    )
    .context(
        "cannot fetch packages of Debian; if one was not found, run as root: apt-get update",
    )?;
    Ok(())
}

/// Unpacks every package in `folder` below `tree`.
pub fn unpack(folder: &Path, tree: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let package: PathBuf = entry?.path();
        output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(tree))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_dependencies_are_found() {
        let record = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-1-amd64 (= 6.1.2-3)\n";
        let depends = find_field(record, "Depends").unwrap();
        assert_eq!(
            dependency(&depends, "linux-image-").as_deref(),
            Some("linux-image-6.1.0-1-amd64")
        );
        assert_eq!(find_field(record, "Suggests"), None);
        let several = "linux-headers-6-common (= 6), linux-kbuild-6.1 (>= 6) | other";
        assert_eq!(
            dependency(several, "linux-kbuild-").as_deref(),
            Some("linux-kbuild-6.1")
        );
        assert_eq!(dependency(several, "linux-compiler-"), None);
    }
}
