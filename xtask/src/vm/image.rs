//! The machine's only file system: our program, the modules, udev and the libraries of these.

use std::{
    collections::BTreeMap,
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::{cpio::Archive, parts::Parts};

/// Who owns devices by udev's rules.
const GROUPS: &str = "root:x:0:\ntty:x:5:\nkmem:x:15:\ndialout:x:20:\nvideo:x:44:\ninput:x:101:\n\
    render:x:102:\nsgx:x:103:\nkvm:x:104:\ndisk:x:6:\nlp:x:7:\ncdrom:x:24:\ntape:x:26:\naudio:x:29:\n";

/// Packs it into `target`; `program` becomes the machine's first.
pub fn pack(parts: &Parts, program: &Path, target: &Path) -> Result<()> {
    let udev = parts.udev();
    let mut libraries = libraries(program, None)?;
    libraries.extend(self::libraries(
        &udev.join("lib/systemd/systemd-udevd"),
        Some(&udev.join("lib")),
    )?);
    libraries.extend(self::libraries(&udev.join("lib/udev/v4l_id"), None)?);

    let beside = target.with_extension("partial");
    let file = fs::File::create(&beside);
    let file = file.with_context(|| format!("cannot create {}", beside.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in ["proc", "sys", "run", "tmp"] {
        archive.folder(folder)?;
    }
    archive.console()?;
    archive.file("etc/group", GROUPS.as_bytes())?;
    archive.file("etc/passwd", b"root:x:0:0::/:/init\n")?;
    archive.file("init", &without_symbols(program, target)?)?;
    for (path, file) in &libraries {
        let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        archive.file(path, &bytes)?;
    }
    add_tree(&mut archive, &udev, "")?;
    add_tree(&mut archive, &parts.modules(), "modules/")?;
    archive.finish()?;
    fs::rename(&beside, target).with_context(|| format!("writing {}", target.display()))
}

/// The program without what only a debugger reads: the machine has little memory. Names for
/// backtraces stay.
fn without_symbols(program: &Path, target: &Path) -> Result<Vec<u8>> {
    let stripped = target.with_extension("program");
    let strip = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .args([&stripped, program])
        .status();
    match strip {
        Ok(status) => ensure!(
            status.success(),
            "strip {} failed ({status})",
            program.display()
        ),
        Err(error) => {
            bail!("cannot run strip ({error}); install it with: apt-get install binutils")
        }
    }
    fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))
}

fn add_tree<W: std::io::Write>(archive: &mut Archive<W>, folder: &Path, place: &str) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = format!("{place}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_tree(archive, &entry.path(), &format!("{path}/"))?;
        } else {
            archive.file(&path, &fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// What a program is linked to, by the place where the machine's loader looks for it.
fn libraries(program: &Path, also_in: Option<&Path>) -> Result<BTreeMap<String, PathBuf>> {
    let mut ldd = Command::new("ldd");
    if let Some(folder) = also_in {
        ldd.env("LD_LIBRARY_PATH", folder);
    }
    let out = ldd.arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(
        out.status.success(),
        "ldd {} failed: {text}",
        program.display()
    );
    parse_ldd(&text).with_context(|| format!("the libraries of {}", program.display()))
}

fn parse_ldd(text: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut libraries = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.rsplit_once(" (0x").map_or(line, |(line, _)| line);
        match line.split_once(" => ") {
            Some((name, "not found")) => bail!("{name} is not on this machine"),
            // /lib is among the places where every loader looks.
            Some((name, path)) => libraries.insert(format!("lib/{name}"), path.into()),
            // The loader itself is found by its whole path.
            None if line.starts_with('/') => libraries.insert(line[1..].to_owned(), line.into()),
            None => None,
        };
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_go_where_the_loader_looks() {
        let text = "\tlinux-vdso.so.1 (0x00007fff)\n\
            \tlibmujoco.so.3 => /home/me/.native/mujoco/libmujoco.so.3 (0x00007f)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let libraries = parse_ldd(text).unwrap();
        let places: Vec<_> = libraries.keys().map(String::as_str).collect();
        assert_eq!(
            places,
            [
                "lib/libc.so.6",
                "lib/libmujoco.so.3",
                "lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(
            libraries["lib/libmujoco.so.3"],
            Path::new("/home/me/.native/mujoco/libmujoco.so.3")
        );
        let missing = parse_ldd("\tlibkmod.so.2 => not found\n").unwrap_err();
        assert!(missing.to_string().contains("libkmod.so.2"));
    }
}
