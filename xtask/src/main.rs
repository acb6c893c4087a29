//! The project's chores: `cargo xtask <setup | test | check>`.
//!
//! - [`setup`]: the pinned native libraries, fetched into `.native/`.
//! - [`steps`]: named commands run one after the other; `test` and `check` are lists of them.

mod setup;
mod steps;

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
    /// Sets up, then runs every test. What follows is handed to `cargo test`.
    Test {
        /// Arguments for `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Formatting, lints, docs, licences.
    Check,
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
    match Cli::parse().chore {
        Chore::Setup => setup::run(&root),
        Chore::Test { args } => {
            setup::run(&root)?;
            steps::test(&root, &args)
        }
        Chore::Check => {
            setup::run(&root)?;
            steps::check(&root)
        }
    }
}
