//! Named commands, one after the other; the first that fails stops the rest and is named.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

/// Pinned, so that a newer release cannot change what passes.
const CARGO_DENY: &str = "0.20.2";

/// Runs a command in the repository's root, says so, and names it if it fails.
pub fn step(root: &Path, title: &str, command: &mut Command) -> Result<()> {
    println!("── {title}");
    let start = Instant::now();
    let status = command
        .current_dir(root)
        .status()
        .with_context(|| format!("{title}: cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{title} failed ({status})");
    }
    println!("── {title}: done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The cargo that runs this.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Every test of the workspace, then the models of what threads share; with `args`, only the tests
/// that they choose.
pub fn test(root: &Path, args: &[String]) -> Result<()> {
    step(root, "tests", cargo(&["test", "--workspace"]).args(args))?;
    if args.is_empty() {
        models(root)?;
    }
    Ok(())
}

/// In a folder of their own: another flag for the compiler would build everything anew each time.
fn models(root: &Path) -> Result<()> {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default() + " --cfg loom";
    step(
        root,
        "models of what threads share",
        cargo(&["test", "--package", "hilt-realtime", "--release"])
            .args(["--target-dir", "target/loom"])
            .env("RUSTFLAGS", flags.trim_start()),
    )
}

/// What a change has to pass besides the tests.
pub fn check(root: &Path) -> Result<()> {
    step(root, "formatting", &mut cargo(&["fmt", "--all", "--check"]))?;
    step(
        root,
        "lints",
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    step(
        root,
        "lints of the learner without the simulator",
        &mut cargo(&[
            "clippy",
            "--package",
            "hilt-learner",
            "--no-default-features",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    // Its crates are many, so that nothing else builds it.
    step(
        root,
        "lints of the runtime with Rerun",
        &mut cargo(&[
            "clippy",
            "--package",
            "hilt-runtime",
            "--features",
            "rerun",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    step(
        root,
        "documentation",
        cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    let tools = root.join(".native/cargo-tools");
    let deny = tools.join("bin/cargo-deny");
    if !deny.exists() {
        let install = [
            "install",
            "cargo-deny",
            "--locked",
            "--version",
            CARGO_DENY,
            "--root",
        ];
        step(root, "installing cargo-deny", cargo(&install).arg(&tools))?;
    }
    step(
        root,
        "licences, bans and sources",
        Command::new(&deny).args(["check", "licenses", "bans", "sources"]),
    )?;
    // The advisory database lives outside the package registry, where not every machine gets to.
    let fetch = ["fetch", "db"];
    match step(root, "fetching advisories", Command::new(&deny).args(fetch)) {
        Ok(()) => step(
            root,
            "advisories",
            Command::new(&deny).args(["--offline", "check", "advisories"]),
        )?,
        Err(error) => println!("── advisories: SKIPPED, the database is out of reach: {error:#}"),
    }
    Ok(())
}
