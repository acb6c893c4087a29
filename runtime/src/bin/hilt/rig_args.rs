//! The rig that a command is for.

use std::path::PathBuf;

use clap::Args;
use hilt_runtime::{
    cell::realtime::keep_core,
    rig::{Rig, Take},
};

#[derive(Args)]
pub struct RigArgs {
    /// The rig's file.
    #[arg(long, value_name = "FILE", default_value = "rigs/lift-sim.toml")]
    rig: PathBuf,
    /// Overrides a value of the rig, as `key.subkey=value`; may be given more than once.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RigArgs {
    pub fn read(&self) -> anyhow::Result<Rig> {
        self.read_taking(Take::Whole)
    }

    /// With a part of what was measured of the rig.
    pub fn read_taking(&self, take: Take) -> anyhow::Result<Rig> {
        let rig = Rig::read_taking(&self.rig, &self.set, take)?;
        keep_core(&rig);
        Ok(Rig {
            // This very program, also when its file has been replaced since.
            supervisor: Some("/proc/self/exe".into()),
            ..rig
        })
    }
}
