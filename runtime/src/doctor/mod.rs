//! `hilt doctor`: whether this machine can run a rig, and what to do where it cannot.
//!
//! - [`Needs`]: what the rig asks of the machine.
//! - [`Facts`]: what the machine is like. A thin shell reads them, all files below one root folder.
//! - [`findings`]: what that means, and the remedies. Pure.
//! - [`hardware`]: what the rig's own devices do when they are asked.
//! - [`Lateness`]: how late this machine wakes a thread now: a measurement, not a judgement.

mod devices;
mod facts;
mod hardware;
mod lateness;
mod report;
mod system;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use hilt_realtime::{Wanted, cores};

pub use facts::{Access, Facts, Folder, Interrupt, Libraries, Node, Port, Said, System};
pub use hardware::{WARNING, hardware};
pub use lateness::Lateness;
pub use report::report;

use crate::{
    inference::Provider,
    rig::{ArmSettings, Rig},
};

/// What a rig asks of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Needs {
    /// What its control thread asks for; without a core it is the spare one.
    pub control: Wanted,
    /// Its serial ports.
    pub ports: Vec<PathBuf>,
    /// Its cameras.
    pub cameras: Vec<PathBuf>,
    /// Whether its frames are rendered.
    pub is_rendered: bool,
    /// Where its networks may run, best first.
    pub providers: Vec<Provider>,
}

impl Default for Needs {
    /// Of a machine that is looked at without a rig.
    fn default() -> Self {
        Self {
            control: Wanted {
                core: None,
                priority: Some(80),
                lock_memory: true,
            },
            ports: Vec::new(),
            cameras: Vec::new(),
            is_rendered: false,
            providers: vec![Provider::Cpu],
        }
    }
}

impl Needs {
    /// What this rig asks.
    pub fn of(rig: &Rig) -> Self {
        let arms = rig.arms.iter().filter_map(ArmSettings::servos);
        let ports = arms.chain(&rig.leaders).map(|arm| arm.port.clone());
        let devices = rig.cameras.iter().filter_map(|camera| camera.v4l2.as_ref());
        Self {
            ports: ports.chain(rig.ports.iter().cloned()).collect(),
            cameras: devices.map(|v4l2| v4l2.device.clone()).collect(),
            is_rendered: rig.scene.is_some(),
            providers: rig.providers.clone(),
            control: rig.realtime.wanted(),
        }
    }
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// The rig runs, but not as well as it could; or it is not the rig's.
    Note,
    /// The rig does not run.
    Mend,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How much it weighs.
    pub level: Level,
    /// What was found.
    pub says: String,
    /// What to do about it: a command where there is one.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(subject: &'static str, says: impl Into<String>) -> Self {
        Self {
            subject,
            level: Level::Ok,
            says: says.into(),
            remedy: None,
        }
    }

    fn note(
        subject: &'static str,
        says: impl Into<String>,
        remedy: impl Into<Option<String>>,
    ) -> Self {
        Self {
            subject,
            level: Level::Note,
            says: says.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, when the rig cannot do without it.
    fn must_be_mended_if(mut self, is_needed: bool) -> Self {
        if is_needed {
            self.level = Level::Mend;
        }
        self
    }
}

/// Looks at this machine, for runs that are kept in `folder`. It takes some seconds.
pub fn examine(folder: &Path, needs: &Needs) -> std::io::Result<(Facts, Lateness)> {
    let system = System::read(Path::new("/"), needs);
    let control_core = needs.control.core.or_else(cores::spare_here);
    // Before anything else is loaded, all of which would be locked too.
    let (lateness, missing) = Lateness::measure(Wanted {
        core: control_core,
        ..needs.control
    })?;
    let facts = Facts {
        system,
        control_core,
        missing,
        libraries: Libraries::load(needs),
        folder: Folder::look(folder),
    };
    Ok((facts, lateness))
}

/// What the facts mean for a rig with these needs.
pub fn findings(facts: &Facts, needs: &Needs) -> Vec<Finding> {
    let mut findings = system::findings(facts, needs);
    findings.extend(devices::findings(facts, needs));
    findings
}
