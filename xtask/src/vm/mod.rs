//! `cargo xtask test --vm`: the drivers against devices of a real kernel, in a virtual machine.
//!
//! - [`parts`]: Debian's kernel, modules and udev, fetched once into `.native/vm/`. [`debian`]
//!   gets the packages, [`modules`] knows what a module needs, [`xz`] unpacks.
//! - [`image`]: the machine's only file system, packed anew each time; [`cpio`] writes it.
//! - [`machine`]: QEMU, watched; no KVM and no root needed.
//! - [`results`]: what ran, held against what was meant to run.
//!
//! The program inside is the crate `hilt-vm-tests`: what it is meant to run, it says on this
//! machine; what ran, in the other.

mod cpio;
mod debian;
mod image;
mod machine;
mod modules;
mod parts;
mod results;
mod xz;

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, ensure};

use crate::{process, setup, steps};

/// Boots the machine and runs the cases whose names contain one of `words`, all without words.
pub fn test(root: &Path, words: &[String]) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the virtual machine is one of x86-64; run it on such a computer"
    );
    setup::machine_program()?;
    let parts = parts::ready(&root.join(".native/vm"))?;
    let build = ["build", "--package", "hilt-vm-tests"];
    steps::step(root, "the machine's program", &mut steps::cargo(&build))?;
    let program = process::target_folder(root).join("debug/hilt-vm-tests");
    let planned = planned(&program, words)?;

    let folder = root.join("target/vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let image = folder.join("initramfs.cpio");
    image::pack(&parts, &program, &image)?;
    println!(
        "── {} cases on Linux {} ({}) under QEMU",
        planned.len(),
        parts.release,
        parts.kernel_version
    );
    let begin = Instant::now();
    let mut results = Vec::new();
    let console = folder.join("console.log");
    let ended = machine::run(&parts.vmlinux(), &image, &console, words, |line| {
        let result = results::CaseResult::parse(line)?;
        println!("{}", result.line());
        results.push(result);
        Ok(())
    });
    println!(
        "── the machine: done in {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    let verdict = results::verdict(&planned, &results);
    if ended.is_err() || results.len() < planned.len() {
        println!("{}", machine::last_words(&console));
    }
    // What happened to the machine says why cases did not run.
    let line = verdict
        .as_ref()
        .map_or_else(ToString::to_string, Clone::clone);
    ended.context(line)?;
    println!("{}", verdict?);
    Ok(())
}

/// The cases that the program is meant to run, asked where it cannot skip any.
fn planned(program: &Path, words: &[String]) -> Result<Vec<String>> {
    let list = Command::new(program).arg("--list").output();
    let list = list.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(list.status.success(), "{} --list failed", program.display());
    let list = String::from_utf8(list.stdout).context("the list of cases is no text")?;
    let chosen = |case: &&str| words.is_empty() || words.iter().any(|word| case.contains(word));
    let planned: Vec<String> = list.lines().filter(chosen).map(str::to_owned).collect();
    ensure!(
        !planned.is_empty(),
        "no case has {words:?} in its name; there are:\n{list}"
    );
    Ok(planned)
}
