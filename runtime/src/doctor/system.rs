//! Findings about the kernel and what it grants. None of them keeps a rig from running.

use hilt_realtime::{Missing, cores};

use super::{Facts, Finding, Needs, Said, System};

pub(super) fn findings(facts: &Facts, needs: &Needs) -> Vec<Finding> {
    let (system, core, missing) = (&facts.system, facts.control_core, &facts.missing[..]);
    let judged = [
        kernel(system),
        Ok(priority(missing, needs)),
        Ok(memory(missing, needs)),
        throttling(system),
        Ok(control_core(missing, core)),
        Ok(sleep(missing)),
        isolation(system, core),
        interrupts(system, core),
        governor(system),
        swap(system, missing),
        clock(system),
    ];
    judged.into_iter().map(finding).collect()
}

/// A finding, or the subject and why there can be none.
type Judged = Result<Finding, (&'static str, String)>;

fn finding(judged: Judged) -> Finding {
    judged.unwrap_or_else(|(subject, problem)| Finding::note(subject, problem, None))
}

/// What a file says, for a finding on `subject`.
fn known<'a, T>(
    subject: &'static str,
    said: &'a Said<T>,
) -> Result<Option<&'a T>, (&'static str, String)> {
    match said {
        Ok(value) => Ok(value.as_ref()),
        Err(problem) => Err((subject, problem.clone())),
    }
}

fn kernel(system: &System) -> Judged {
    let subject = "kernel";
    let release = known(subject, &system.release)?.map_or("unknown release", String::as_str);
    let version = known(subject, &system.version)?.map_or("", String::as_str);
    if known(subject, &system.realtime)? == Some(&1) || version.contains("PREEMPT_RT") {
        return Ok(Finding::ok(subject, format!("{release}, with PREEMPT_RT")));
    }
    let debian = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let remedy = format!(
        "Debian: sudo apt-get install linux-image-rt-{debian} && sudo reboot\n\
         Ubuntu: sudo pro enable realtime-kernel && sudo reboot"
    );
    let says = format!("{release}, without PREEMPT_RT: the kernel's own work may hold up the loop");
    Ok(Finding::note(subject, says, remedy))
}

fn from_missing(subject: &'static str, missing: &Missing) -> Finding {
    Finding::note(subject, missing.what(), missing.remedy())
}

fn priority(missing: &[Missing], needs: &Needs) -> Finding {
    let subject = "priority";
    let is_it = |m: &&Missing| {
        matches!(
            m,
            Missing::Priority { .. } | Missing::PriorityRefused { .. }
        )
    };
    match (missing.iter().find(is_it), needs.control.priority) {
        (Some(missing), _) => from_missing(subject, missing),
        (None, Some(priority)) => Finding::ok(subject, format!("SCHED_FIFO {priority} is granted")),
        (None, None) => Finding::ok(subject, "the rig asks for none"),
    }
}

fn memory(missing: &[Missing], needs: &Needs) -> Finding {
    let subject = "memory";
    match missing.iter().find(|m| is_memory(m)) {
        Some(missing) => from_missing(subject, missing),
        None if needs.control.lock_memory => Finding::ok(subject, "can be locked"),
        None => Finding::ok(subject, "the rig does not ask for it to be locked"),
    }
}

fn is_memory(missing: &Missing) -> bool {
    matches!(
        missing,
        Missing::MemoryLimit { .. } | Missing::MemoryRefused { .. }
    )
}

/// The control loop sleeps most of each period, so that only a small share is too small.
fn throttling(system: &System) -> Judged {
    let subject = "throttling";
    let runtime_us = known(subject, &system.rt_runtime_us)?.copied();
    let period_us = known(subject, &system.rt_period_us)?.copied();
    let (Some(runtime_us), Some(period_us)) = (runtime_us, period_us) else {
        return Ok(Finding::ok(subject, "this kernel has none"));
    };
    if runtime_us < 0 {
        return Ok(Finding::ok(subject, "off"));
    }
    let percent = 100 * runtime_us / period_us.max(1);
    let says = format!("real-time threads get {percent} % of the time");
    if percent >= 90 {
        return Ok(Finding::ok(subject, says));
    }
    let runtime_us = period_us / 100 * 95;
    let remedy = format!("sudo sysctl -w kernel.sched_rt_runtime_us={runtime_us}");
    Ok(Finding::note(subject, says, remedy))
}

fn control_core(missing: &[Missing], core: Option<usize>) -> Finding {
    let subject = "control core";
    let is_it = |m: &&Missing| {
        matches!(
            m,
            Missing::Core { .. } | Missing::OtherCores { .. } | Missing::Affinity { .. }
        )
    };
    match (missing.iter().find(is_it), core) {
        (Some(missing), _) => from_missing(subject, missing),
        (None, Some(core)) => Finding::ok(subject, core.to_string()),
        (None, None) => Finding::note(subject, "none: there is one core for everything", None),
    }
}

fn sleep(missing: &[Missing]) -> Finding {
    let subject = "idle cores";
    let is_it = |m: &&Missing| matches!(m, Missing::Awake { .. });
    match missing.iter().find(is_it) {
        Some(missing) => from_missing(subject, missing),
        None => Finding::ok(subject, "can be kept from sleeping deeply"),
    }
}

fn isolation(system: &System, core: Option<usize>) -> Judged {
    let subject = "isolation";
    let empty = Vec::new();
    let isolated = known(subject, &system.isolated)?.unwrap_or(&empty);
    let tickless = known(subject, &system.nohz_full)?.unwrap_or(&empty);
    let online = known(subject, &system.online)?.unwrap_or(&empty);
    let Some(core) = core else {
        return Ok(Finding::ok(subject, "of no use without a core for control"));
    };
    let says = match (isolated.contains(&core), tickless.contains(&core)) {
        (true, true) => {
            let says = format!("core {core} is left alone by the scheduler and its tick");
            return Ok(Finding::ok(subject, says));
        }
        (true, false) => format!("core {core} is isolated, but the scheduler's tick interrupts it"),
        (false, _) => format!("core {core} is not isolated: any thread may run on it"),
    };
    let others = others(online, core);
    let remedy = format!(
        "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&isolcpus=domain,managed_irq,{core} \
         nohz_full={core} irqaffinity={others} /' /etc/default/grub && sudo update-grub && sudo reboot"
    );
    Ok(Finding::note(subject, says, remedy))
}

fn others(online: &[usize], core: usize) -> String {
    cores::ranges(online.iter().copied().filter(|&other| other != core))
}

fn interrupts(system: &System, core: Option<usize>) -> Judged {
    let subject = "interrupts";
    let online = known(subject, &system.online)?.map_or(&[][..], Vec::as_slice);
    let Some(core) = core else {
        return Ok(Finding::ok(subject, "share the only core"));
    };
    let (mut numbers, mut names) = (Vec::new(), Vec::new());
    for interrupt in &system.interrupts {
        if known(subject, &interrupt.cores)?.is_some_and(|cores| cores.contains(&core)) {
            numbers.push(interrupt.number.to_string());
            names.push(interrupt.name.as_str());
        }
    }
    if numbers.is_empty() {
        return Ok(Finding::ok(subject, format!("none on core {core}")));
    }
    names.dedup();
    let says = format!(
        "{} are served on core {core}: {}",
        numbers.len(),
        names.join(", ")
    );
    // Some cannot be moved, which the kernel says of each.
    let remedy = format!(
        "for i in {}; do echo {} | sudo tee /proc/irq/$i/smp_affinity_list; done",
        numbers.join(" "),
        others(online, core)
    );
    Ok(Finding::note(subject, says, remedy))
}

fn governor(system: &System) -> Judged {
    let subject = "governor";
    let mut others: Vec<(usize, &str)> = Vec::new();
    for (core, governor) in &system.governors {
        let governor = known(subject, governor)?.map_or("", String::as_str);
        if governor != "performance" {
            others.push((*core, governor));
        }
    }
    let Some((_, governor)) = others.first() else {
        let says = match system.governors.is_empty() {
            true => "none: the frequency is not this kernel's to choose",
            false => "performance",
        };
        return Ok(Finding::ok(subject, says));
    };
    let slow = cores::ranges(others.iter().map(|(core, _)| *core));
    let says = format!("{governor} on cores {slow}: an idle core wakes slowly");
    let remedy =
        "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
    Ok(Finding::note(subject, says, remedy.to_owned()))
}

fn swap(system: &System, missing: &[Missing]) -> Judged {
    let subject = "swap";
    let swaps = known(subject, &system.swaps)?.map_or(&[][..], Vec::as_slice);
    if swaps.is_empty() {
        return Ok(Finding::ok(subject, "none"));
    }
    let swaps = swaps.join(", ");
    if missing.iter().any(is_memory) {
        let says = format!("{swaps}: memory that is not locked may be there when it is needed");
        return Ok(Finding::note(
            subject,
            says,
            "sudo swapoff --all".to_owned(),
        ));
    }
    Ok(Finding::ok(
        subject,
        format!("{swaps}; locked memory never goes there"),
    ))
}

/// Clocks that a program reads without the kernel's help.
const FAST_CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];

fn clock(system: &System) -> Judged {
    let subject = "clock source";
    let Some(now) = known(subject, &system.clock_source)? else {
        return Ok(Finding::note(subject, "unknown", None));
    };
    if FAST_CLOCKS.contains(&now.as_str()) {
        return Ok(Finding::ok(subject, now));
    }
    let others = known(subject, &system.clock_sources)?.map_or("", String::as_str);
    let better = others
        .split_whitespace()
        .find(|name| FAST_CLOCKS.contains(name));
    let remedy = match better {
        Some(better) => format!(
            "echo {better} | sudo tee \
             /sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        None => {
            "sudo dmesg | grep -i -e tsc -e clocksource   # says why no faster one is there".into()
        }
    };
    let says = format!("{now}: every look at the clock is a system call");
    Ok(Finding::note(subject, says, remedy))
}
