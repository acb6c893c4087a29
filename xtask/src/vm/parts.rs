//! What the machine is made of beside our program: Debian's kernel, some of its modules, one that
//! is built, and udev.
//!
//! Two stages, each written beside and renamed into place: the packages (`packages/`) and what is
//! made of them (`parts/`). The kernel is the newest at the time of the first run, and stays;
//! its version is printed at every run. Remove `.native/vm` for a newer one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{debian, modules, xz};

/// Modules that cases load, or that devices need; with all that these need.
const MODULES: &[&str] = &[
    // USB serial: an emulated host controller with the kernel's own gadget behind it.
    "dummy_hcd",
    "usb_f_acm",
    "g_serial",
    "cdc_acm",
    // A USB adapter that the emulated computer has.
    "xhci_pci",
    "ftdi_sio",
    // Cameras.
    "vivid",
    "v4l2loopback",
    // Hands.
    "uhid",
    "hid_generic",
    "uinput",
    "evdev",
];

/// Rules by which devices get their stable names.
const RULES: &[&str] = &[
    "50-udev-default.rules",
    "60-input-id.rules",
    "60-persistent-input.rules",
    "60-persistent-v4l.rules",
    "60-serial.rules",
];

/// The parts, ready to be packed.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
pub struct Parts {
    /// Where they are.
    #[serde(skip)]
    folder: PathBuf,
    /// The kernel's name for its version, as `6.1.0-1-amd64`.
    pub release: String,
    /// The version of the kernel's package.
    pub kernel_version: String,
    /// What was to be in them.
    recipe: Vec<String>,
}

impl Parts {
    /// The kernel, uncompressed: unpacking itself would take it seconds under emulation.
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// NAME.ko, and `order` with a line for each that is to be loaded: its name, a colon, and what
    /// to load in which order.
    pub fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }

    /// Files below the machine's root.
    pub fn udev(&self) -> PathBuf {
        self.folder.join("udev")
    }
}

/// Finds the parts in `home`, or makes them.
pub fn ready(home: &Path) -> Result<Parts> {
    let folder = home.join("parts");
    let recipe = recipe();
    if let Some(parts) = stamped(&folder, &recipe) {
        return Ok(parts);
    }
    let (packages, tree) = (home.join("packages"), home.join("tree"));
    if !packages.exists() {
        fetch(home, &packages)?;
    }
    println!("making the machine's parts");
    let partial = home.join("parts.partial");
    for old in [&partial, &tree] {
        remove(old)?;
    }
    debian::unpack(&packages, &tree)?;
    let parts = make(&packages, &tree, partial.clone(), recipe);
    let parts = parts.context("making the machine's parts")?;
    fs::write(
        partial.join("stamp.json"),
        serde_json::to_vec_pretty(&parts)?,
    )?;
    remove(&folder)?;
    fs::rename(&partial, &folder).context("moving the machine's parts into place")?;
    remove(&tree)?;
    Ok(Parts { folder, ..parts })
}

fn recipe() -> Vec<String> {
    let all = MODULES.iter().chain(RULES);
    all.map(|part| part.to_string()).collect()
}

/// Parts that were finished, and of this recipe.
fn stamped(folder: &Path, recipe: &[String]) -> Option<Parts> {
    let stamp = fs::read(folder.join("stamp.json")).ok()?;
    let parts: Parts = serde_json::from_slice(&stamp).ok()?;
    (parts.recipe == recipe).then(|| Parts {
        folder: folder.to_owned(),
        ..parts
    })
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

fn fetch(home: &Path, packages: &Path) -> Result<()> {
    debian::refresh();
    let depends = |package: &str, begin: &str| -> Result<String> {
        let depends = debian::field(package, "Depends")?.unwrap_or_default();
        debian::dependency(&depends, begin)
            .with_context(|| format!("{package} depends on no {begin}…: {depends}"))
    };
    let image = depends("linux-image-amd64", "linux-image-")?;
    let headers = depends("linux-headers-amd64", "linux-headers-")?;
    let wanted = [
        depends(&headers, "linux-headers-")?,
        depends(&headers, "linux-kbuild-")?,
        image,
        headers,
        "v4l2loopback-dkms".into(),
        "udev".into(),
        "libkmod2".into(),
    ];
    println!("fetching {} (90 MB)", wanted.join(", "));
    let partial = home.join("packages.partial");
    remove(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    debian::fetch(&wanted, &partial)?;
    fs::rename(&partial, packages).context("moving the packages into place")
}

/// Makes the parts in `folder` of unpacked packages.
fn make(packages: &Path, tree: &Path, folder: PathBuf, recipe: Vec<String>) -> Result<Parts> {
    fs::create_dir_all(folder.join("modules"))?;
    let release = only_entry(&tree.join("lib/modules"))?;
    let release = release.file_name().context("no release")?;
    let release = release.to_string_lossy().into_owned();
    let parts = Parts {
        folder,
        kernel_version: kernel_version(packages, &release)?,
        release,
        recipe,
    };
    let boot = tree.join(format!("boot/vmlinuz-{}", parts.release));
    let kernel = fs::read(&boot)
        .map_err(Into::into)
        .and_then(|b| xz::unpack(&b));
    let kernel = kernel.with_context(|| format!("the kernel in {}", boot.display()))?;
    fs::write(parts.vmlinux(), kernel).context("writing the kernel")?;
    let loopback = build_loopback(tree, &parts.release)?;
    keep_modules(&tree.join("lib/modules"), loopback, &parts.modules())?;
    keep_udev(tree, &parts.udev())?;
    Ok(parts)
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries =
        fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let entry = entries
        .next()
        .with_context(|| format!("{} is empty", folder.display()))?;
    Ok(entry?.path())
}

/// From the name of the kernel's package: `linux-image-RELEASE_VERSION_amd64.deb`.
fn kernel_version(packages: &Path, release: &str) -> Result<String> {
    let begin = format!("linux-image-{release}_");
    for entry in fs::read_dir(packages)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix(&begin).and_then(|v| v.split_once('_'));
        if let Some((version, _)) = version {
            return Ok(version.to_owned());
        }
    }
    bail!("{} has no {begin}…", packages.display())
}

/// Builds v4l2loopback, which Debian's kernel lacks, against its headers.
fn build_loopback(tree: &Path, release: &str) -> Result<PathBuf> {
    let sources = tree.join("usr/src");
    let headers = sources.join(format!("linux-headers-{release}"));
    // The packages think that they are installed.
    let makefile = headers.join("Makefile");
    let text = fs::read_to_string(&makefile).context("the kernel's headers")?;
    let here = text.replace("/usr/src", &sources.to_string_lossy());
    fs::write(&makefile, here)?;
    let module = fs::read_dir(&sources)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("v4l2loopback-"))
        .context("v4l2loopback's source is not there")?;
    let out = Command::new("make")
        .arg("-C")
        .arg(&headers)
        .arg(format!("M={}", module.display()))
        .arg("modules")
        .output()
        .context("cannot run make; install it with: apt-get install make gcc")?;
    ensure!(
        out.status.success(),
        "building v4l2loopback failed; it needs: apt-get install make gcc libelf1\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(module.join("v4l2loopback.ko"))
}

/// Copies the modules that are wanted, and what these need.
fn keep_modules(all: &Path, built: PathBuf, place: &Path) -> Result<()> {
    let mut files = BTreeMap::from([("v4l2loopback".to_owned(), built)]);
    find_modules(all, &mut files)?;
    let mut order = String::new();
    for wanted in MODULES {
        let mut needs = |module: &str| {
            let module = read_module(&files[module])?;
            modules::depends(&module)
        };
        let needed = modules::in_order(wanted, &files, &mut needs)?;
        for module in &needed {
            let target = place.join(format!("{module}.ko"));
            fs::write(&target, read_module(&files[module])?)
                .with_context(|| format!("writing {}", target.display()))?;
        }
        order += &format!("{wanted}: {}\n", needed.join(" "));
    }
    fs::write(place.join("order"), order).context("writing the modules' order")
}

fn read_module(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file).map_err(anyhow::Error::from);
    let bytes = match file.extension() {
        Some(extension) if extension == "xz" => bytes.and_then(|bytes| xz::unpack(&bytes)),
        _ => bytes,
    };
    bytes.with_context(|| format!("the module {}", file.display()))
}

fn find_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find_modules(&entry.path(), found)?;
        } else if let Some(name) = modules::name(&entry.file_name().to_string_lossy()) {
            found.insert(name, entry.path());
        }
    }
    Ok(())
}

/// Copies udev, its rules and the library that may not be on this machine.
fn keep_udev(tree: &Path, place: &Path) -> Result<()> {
    let copy = |from: PathBuf, to: PathBuf| -> Result<()> {
        fs::create_dir_all(to.parent().context("no folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    };
    // The same program is told by its name what it shall be; newer Debians merge /usr.
    let merged = |path: &str| {
        let old = tree.join(path);
        if old.exists() {
            old
        } else {
            tree.join("usr").join(path)
        }
    };
    copy(
        merged("bin/udevadm"),
        place.join("lib/systemd/systemd-udevd"),
    )?;
    copy(merged("lib/udev/v4l_id"), place.join("lib/udev/v4l_id"))?;
    for rule in RULES {
        let path = format!("lib/udev/rules.d/{rule}");
        copy(merged(&path), place.join(&path))?;
    }
    let library = tree.join("usr/lib/x86_64-linux-gnu/libkmod.so.2");
    copy(library, place.join("lib/libkmod.so.2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_version_is_that_of_its_package() {
        let packages = tempfile::tempdir().unwrap();
        for name in [
            "linux-headers-6.1.0-1-amd64_6.1.9-9_amd64.deb",
            "linux-image-6.1.0-1-amd64_6.1.2-3_amd64.deb",
        ] {
            fs::write(packages.path().join(name), "").unwrap();
        }
        let version = |release| kernel_version(packages.path(), release);
        assert_eq!(version("6.1.0-1-amd64").unwrap(), "6.1.2-3");
        assert!(version("6.1.0-1-rt-amd64").is_err());
    }

    #[test]
    fn parts_of_another_recipe_are_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_owned();
        assert_eq!(stamped(&folder, &recipe()), None);
        let parts = Parts {
            folder: folder.clone(),
            release: "6".into(),
            kernel_version: "6-1".into(),
            recipe: recipe(),
        };
        let stamp = serde_json::to_vec(&parts).unwrap();
        fs::write(folder.join("stamp.json"), stamp).unwrap();
        assert_eq!(stamped(&folder, &recipe()), Some(parts));
        assert_eq!(stamped(&folder, &recipe()[1..]), None);
    }
}
