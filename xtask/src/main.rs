//! The project's chores: `cargo xtask <setup | demo | test | check | bench | fuzz>`.
//!
//! - [`setup`]: the pinned native libraries, fetched into `.native/`.
//! - [`steps`]: named commands run one after the other; `test` and `check` are lists of them.
//! - [`demo`]: the main job from demonstrations to evaluation. [`process`] runs its programs,
//!   [`figures`] reads what they leave, [`report`] draws it.
//! - [`mod@bench`]: the examples that measure, their rows collected.
//! - [`fuzz`]: the parsers, fed with what a fuzzer thinks up.
//! - [`vm`]: the drivers against devices of a real kernel, in a virtual machine.

mod bench;
mod demo;
mod figures;
mod fuzz;
mod process;
mod report;
mod setup;
mod steps;
mod timing;
mod vm;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "hilt's chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Fetches and verifies the native libraries; does nothing when they are there.
    Setup,
    /// Sets up, then lets a simulated arm learn to lift a cube from its cameras.
    Demo(demo::Options),
    /// Sets up, then runs every test. What follows is handed to `cargo test`.
    Test {
        /// Runs the drivers against devices of a real kernel instead, in a virtual machine. What
        /// follows is parts of the names of the cases to run; all without.
        #[arg(long)]
        vm: bool,
        /// Arguments for `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Formatting, lints, docs, licences.
    Check,
    /// Sets up, then measures; writes target/bench/NAME.json.
    Bench {
        /// One benchmark; without a name all of them but `learning`, which takes hours.
        name: Option<String>,
        /// One part of `learning`; may be given more than once.
        #[arg(long, value_name = "PART", requires = "name")]
        only: Vec<String>,
    },
    /// Feeds the parsers with what a fuzzer thinks up.
    Fuzz {
        /// One target; all of them without a name.
        target: Option<String>,
        /// For so long each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

/// The repository's root: the folder above this crate.
fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .context("xtask has no parent folder")
}

fn main() -> Result<()> {
    let root = root()?;
    let chore = Cli::parse().chore;
    setup::run(&root)?;
    match chore {
        Chore::Setup => setup::peers(&root),
        Chore::Demo(options) => demo::run(&root, &options),
        Chore::Test { vm: true, args } => vm::test(&root, &args),
        Chore::Test { vm: false, args } => {
            setup::peers(&root)?;
            setup::video_program()?;
            steps::test(&root, &args)
        }
        Chore::Check => steps::check(&root),
        Chore::Bench { name, only } => bench::run(&root, name.as_deref(), &only),
        Chore::Fuzz { target, seconds } => fuzz::run(&root, target.as_deref(), seconds),
    }
}
