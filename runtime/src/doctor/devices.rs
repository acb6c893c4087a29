//! Findings about what a rig is made of: devices, libraries, room for its runs.

use super::{Access, Facts, Finding, Folder, Needs, Node, Port};

pub(super) fn findings(facts: &Facts, needs: &Needs) -> Vec<Finding> {
    let system = &facts.system;
    let mut findings = Vec::new();
    findings.extend(system.ports.iter().flat_map(port));
    if system.ports.is_empty() {
        findings.push(Finding::ok(SERIAL, "no port, and the rig names none"));
    }
    findings.extend(
        system
            .cameras
            .iter()
            .map(|node| device("camera", node, "video")),
    );
    if system.cameras.is_empty() {
        findings.push(Finding::ok("camera", "none, and the rig names none"));
    }
    findings.extend(system.hands.iter().map(hand));
    if system.hands.is_empty() {
        findings.push(Finding::ok(
            "gamepad",
            "none, and no SpaceMouse; the keyboard is enough",
        ));
    }
    findings.push(match &facts.libraries.onnx_runtime {
        Ok(provider) => Finding::ok("ONNX Runtime", format!("works, on {provider}")),
        // Teleoperation goes without; a policy does not.
        Err(problem) => Finding::note("ONNX Runtime", problem, None).must_be_mended_if(true),
    });
    findings.push(match &facts.libraries.rendering {
        Ok(()) => Finding::ok("rendering", "EGL is there"),
        Err(problem) => {
            Finding::note("rendering", problem, None).must_be_mended_if(needs.is_rendered)
        }
    });
    findings.push(room(&facts.folder));
    findings
}

const SERIAL: &str = "serial port";

fn named(node: &Node) -> String {
    let path = node.path.display();
    match node.name.as_str() {
        name if node.path.ends_with(name) => path.to_string(),
        name => format!("{path} ({name})"),
    }
}

/// Whether it is there and may be used; members of `group` may.
fn device(subject: &'static str, node: &Node, group: &str) -> Finding {
    let finding = match node.access {
        Access::Granted => return Finding::ok(subject, named(node)),
        Access::Denied => Finding::note(
            subject,
            format!("{} is not this user's to use", named(node)),
            format!("sudo usermod --append --groups {group} $USER, then log in again"),
        ),
        Access::Gone => Finding::note(
            subject,
            format!("{} is not there", node.path.display()),
            "plug it in, or name another one in the rig's file".to_owned(),
        ),
    };
    finding.must_be_mended_if(node.is_the_rigs)
}

/// The most that an FTDI adapter may keep bytes to itself: with its default of 16 ms no tick would
/// have its reply in time.
const LATENCY_TIMER_MS: u32 = 1;

fn port(port: &Port) -> Vec<Finding> {
    let node = &port.node;
    let access = device(SERIAL, node, "dialout");
    let timer = match &port.latency_timer_ms {
        Ok(Some(ms)) if *ms > LATENCY_TIMER_MS => {
            let says = format!(
                "{} keeps what it receives for {ms} ms (latency timer); a tick has no such time",
                named(node)
            );
            Finding::note(SERIAL, says, latency_remedy(&node.name))
                .must_be_mended_if(node.is_the_rigs)
        }
        Ok(_) => return vec![access],
        Err(problem) => Finding::note(SERIAL, problem, None),
    };
    vec![access, timer]
}

fn latency_remedy(tty: &str) -> String {
    format!(
        "echo 1 | sudo tee /sys/bus/usb-serial/devices/{tty}/latency_timer\n\
         for good: echo 'ACTION==\"add\", SUBSYSTEM==\"usb-serial\", DRIVER==\"ftdi_sio\", \
         ATTR{{latency_timer}}=\"1\"' | sudo tee /etc/udev/rules.d/99-hilt-ftdi.rules"
    )
}

/// Raw devices belong to no group.
fn hand(node: &Node) -> Finding {
    let mut finding = device("gamepad", node, "input");
    if node.access == Access::Denied && node.path.to_string_lossy().contains("hidraw") {
        finding.remedy = Some(
            "echo 'KERNEL==\"hidraw*\", ATTRS{idVendor}==\"256f|046d\", \
             ATTRS{idProduct}==\"c6*\", TAG+=\"uaccess\"' | \
             sudo tee /etc/udev/rules.d/70-hilt-spacemouse.rules, then plug it in again"
                .into(),
        );
    }
    finding
}

const GIB: u64 = 1 << 30;
/// Below it a run is not worth beginning, …
const TOO_LITTLE_BYTES: u64 = GIB;
/// … and below this a day of two small cameras may fill it.
const LITTLE_BYTES: u64 = 20 * GIB;

fn room(folder: &Folder) -> Finding {
    let subject = "disk";
    let path = folder.path.display();
    if !folder.is_writable {
        let says = format!("{path} cannot be written to, so no run can be kept there");
        let remedy = "work in another folder, or give --out one".to_owned();
        return Finding::note(subject, says, remedy).must_be_mended_if(true);
    }
    match &folder.free_bytes {
        Err(problem) => Finding::note(subject, problem, None),
        Ok(free) => {
            let says = format!("{:.1} GiB free in {path}", *free as f64 / GIB as f64);
            if *free >= LITTLE_BYTES {
                return Finding::ok(subject, says);
            }
            let remedy = "du --human-readable --max-depth=1 runs | sort --human-numeric-sort   \
                          # what takes the room";
            Finding::note(subject, says, remedy.to_owned())
                .must_be_mended_if(*free < TOO_LITTLE_BYTES)
        }
    }
}
