use std::{fs, os::unix::fs::symlink};

use hilt_realtime::Missing;
use rustix::io::Errno;

use super::*;

/// A machine on which nothing is to be said.
fn good() -> Facts {
    let text = |text: &str| Ok(Some(text.to_owned()));
    Facts {
        system: System {
            release: text("6.1.0-rt"),
            version: text("Linux version 6.1.0-rt SMP PREEMPT_RT"),
            realtime: Ok(Some(1)),
            rt_runtime_us: Ok(Some(950_000)),
            rt_period_us: Ok(Some(1_000_000)),
            governors: vec![(0, text("performance")), (3, text("performance"))],
            online: Ok(Some(vec![0, 1, 2, 3])),
            isolated: Ok(Some(vec![3])),
            nohz_full: Ok(Some(vec![3])),
            interrupts: vec![Interrupt {
                number: 24,
                name: "eth0".into(),
                cores: Ok(Some(vec![0])),
            }],
            swaps: Ok(Some(vec![])),
            clock_source: text("tsc"),
            clock_sources: text("tsc hpet acpi_pm"),
            ports: vec![],
            cameras: vec![],
            hands: vec![],
        },
        control_core: Some(3),
        missing: vec![],
        libraries: Libraries {
            onnx_runtime: Ok("cpu"),
            rendering: Ok(()),
        },
        folder: Folder {
            path: "/runs".into(),
            is_writable: true,
            free_bytes: Ok(100 << 30),
        },
    }
}

fn node(path: &str, access: Access) -> Node {
    Node {
        path: path.into(),
        name: "ttyUSB0".into(),
        access,
        is_the_rigs: false,
    }
}

fn port(latency_timer_ms: u32) -> Port {
    Port {
        node: node("/dev/serial/by-id/usb-FTDI", Access::Granted),
        latency_timer_ms: Ok(Some(latency_timer_ms)),
    }
}

/// The findings that are not as they should be, when this is otherwise a good machine.
fn with(needs: &Needs, change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = good();
    change(&mut facts);
    let mut findings = findings(&facts, needs);
    findings.retain(|finding| finding.level != Level::Ok);
    findings
}

/// The one finding that a change makes: its subject and level; what it says and its remedy hold
/// these words.
#[track_caller]
fn says(change: impl FnOnce(&mut Facts), subject: &str, level: Level, words: &[&str]) {
    let found = with(&Needs::default(), change);
    let [finding] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((finding.subject, finding.level), (subject, level));
    let text = format!(
        "{}\n{}",
        finding.says,
        finding.remedy.as_deref().unwrap_or("")
    );
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

use Level::{Mend, Note};

#[test]
fn of_a_good_machine_there_is_nothing_to_say() {
    assert_eq!(with(&Needs::default(), |_| ()), []);
}

#[test]
fn a_kernel_without_preempt_rt_is_told_with_a_package() {
    let plain = |facts: &mut Facts| {
        facts.system.realtime = Ok(None);
        facts.system.version = Ok(Some("Linux 6.1.0 SMP PREEMPT_DYNAMIC".into()));
    };
    says(plain, "kernel", Note, &["6.1.0-rt", "linux-image-rt-"]);
    // Either sign is enough.
    assert_eq!(
        with(&Needs::default(), |f| f.system.realtime = Ok(None)),
        []
    );
    assert_eq!(with(&Needs::default(), |f| f.system.version = Ok(None)), []);
}

#[test]
fn what_a_thread_was_not_granted_is_told_with_its_remedy() {
    for (missing, subject, word) in [
        (
            Missing::Priority {
                priority: 80,
                limit: 0,
            },
            "priority",
            "rtprio 80",
        ),
        (
            Missing::PriorityRefused {
                priority: 80,
                error: Errno::PERM,
            },
            "priority",
            "cpu.rt_runtime_us",
        ),
        (
            Missing::MemoryLimit { limit_bytes: 65536 },
            "memory",
            "memlock unlimited",
        ),
        (
            Missing::Core {
                core: 9,
                usable: "0-3".into(),
            },
            "control core",
            "name one of 0-3",
        ),
        (
            Missing::Awake {
                error: Errno::ACCESS,
            },
            "idle cores",
            "99-hilt-awake.rules",
        ),
    ] {
        says(|f| f.missing.push(missing), subject, Note, &[word]);
    }
}

#[test]
fn too_small_a_share_for_real_time_threads_is_told() {
    let share = |us| move |f: &mut Facts| f.system.rt_runtime_us = Ok(Some(us));
    says(
        share(0),
        "throttling",
        Note,
        &["0 %", "sched_rt_runtime_us=950000"],
    );
    says(share(500_000), "throttling", Note, &["50 %"]);
    assert_eq!(with(&Needs::default(), share(-1)), []);
    // A period that cannot be does no harm.
    let zero = |f: &mut Facts| f.system.rt_period_us = Ok(Some(0));
    assert_eq!(with(&Needs::default(), zero), []);
}

#[test]
fn a_governor_that_saves_power_is_told_with_its_cores() {
    let powersave = |f: &mut Facts| {
        f.system.governors[1].1 = Ok(Some("powersave".into()));
    };
    says(
        powersave,
        "governor",
        Note,
        &["powersave on cores 3", "echo performance"],
    );
    assert_eq!(with(&Needs::default(), |f| f.system.governors.clear()), []);
}

#[test]
fn a_control_core_that_is_not_isolated_is_told_with_a_command_line() {
    let none = |f: &mut Facts| {
        f.system.isolated = Ok(Some(vec![]));
        f.system.nohz_full = Ok(None);
    };
    let words = [
        "core 3 is not isolated",
        "isolcpus=domain,managed_irq,3",
        "irqaffinity=0-2",
    ];
    says(none, "isolation", Note, &words);
    says(
        |f| f.system.nohz_full = Ok(Some(vec![1])),
        "isolation",
        Note,
        &["tick", "nohz_full=3"],
    );
}

#[test]
fn with_one_core_there_is_nothing_to_isolate() {
    let one = |f: &mut Facts| f.control_core = None;
    says(one, "control core", Note, &["one core for everything"]);
}

#[test]
fn interrupts_on_the_control_core_are_told_by_number() {
    let here = |f: &mut Facts| f.system.interrupts[0].cores = Ok(Some(vec![2, 3]));
    says(
        here,
        "interrupts",
        Note,
        &["eth0", "for i in 24;", "echo 0-2"],
    );
}

#[test]
fn swap_is_told_only_where_memory_is_not_locked() {
    let swap = |f: &mut Facts| f.system.swaps = Ok(Some(vec!["/dev/sda2".into()]));
    assert_eq!(with(&Needs::default(), swap), []);
    let both = |f: &mut Facts| {
        swap(f);
        f.missing.push(Missing::MemoryLimit { limit_bytes: 0 });
    };
    let found = with(&Needs::default(), both);
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].subject, found[1].level), ("swap", Note));
    assert_eq!(found[1].remedy.as_deref(), Some("sudo swapoff --all"));
}

#[test]
fn a_slow_clock_is_told_with_a_faster_one_where_there_is_one() {
    let hpet = |f: &mut Facts| f.system.clock_source = Ok(Some("hpet".into()));
    says(hpet, "clock source", Note, &["hpet", "echo tsc | sudo tee"]);
    let only = |f: &mut Facts| {
        hpet(f);
        f.system.clock_sources = Ok(Some("hpet acpi_pm".into()));
    };
    says(only, "clock source", Note, &["dmesg"]);
    says(
        |f| f.system.clock_source = Ok(None),
        "clock source",
        Note,
        &["unknown"],
    );
}

#[test]
fn an_adapter_that_holds_bytes_back_must_be_mended_where_it_is_the_rigs() {
    assert_eq!(
        with(&Needs::default(), |f| f.system.ports = vec![port(1)]),
        []
    );
    let words = [
        "for 16 ms",
        "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer",
    ];
    says(
        |f| f.system.ports = vec![port(16)],
        "serial port",
        Note,
        &words,
    );
    let the_rigs = |f: &mut Facts| {
        f.system.ports = vec![port(16)];
        f.system.ports[0].node.is_the_rigs = true;
    };
    says(the_rigs, "serial port", Mend, &words);
}

#[test]
fn devices_that_are_gone_or_not_this_users_must_be_mended_where_they_are_the_rigs() {
    for (access, words) in [
        (Access::Denied, "usermod --append --groups"),
        (Access::Gone, "is not there"),
    ] {
        for the_rigs in [false, true] {
            let level = if the_rigs { Mend } else { Note };
            let node = || Node {
                is_the_rigs: the_rigs,
                ..node("/dev/thing", access)
            };
            let camera = |f: &mut Facts| f.system.cameras = vec![node()];
            says(camera, "camera", level, &[words, "/dev/thing"]);
            let port = |f: &mut Facts| {
                f.system.ports = vec![Port {
                    node: node(),
                    latency_timer_ms: Ok(None),
                }];
            };
            says(port, "serial port", level, &[words, "/dev/thing"]);
        }
    }
}

#[test]
fn a_gamepad_that_is_not_this_users_is_told_and_a_spacemouse_gets_a_rule() {
    let hand = |path| move |f: &mut Facts| f.system.hands = vec![node(path, Access::Denied)];
    says(
        hand("/dev/input/event3"),
        "gamepad",
        Note,
        &["--groups input"],
    );
    says(hand("/dev/hidraw0"), "gamepad", Note, &["uaccess"]);
}

#[test]
fn libraries_that_are_missing_must_be_mended_where_they_are_needed() {
    let onnx = |f: &mut Facts| f.libraries.onnx_runtime = Err("not found".into());
    says(onnx, "ONNX Runtime", Mend, &["not found"]);
    let egl = |f: &mut Facts| f.libraries.rendering = Err("needs libEGL.so.1".into());
    says(egl, "rendering", Note, &["libEGL"]);
    let rendered = Needs {
        is_rendered: true,
        ..Needs::default()
    };
    assert_eq!(with(&rendered, egl)[0].level, Mend);
}

#[test]
fn little_room_is_told_and_too_little_must_be_mended() {
    let free = |bytes| move |f: &mut Facts| f.folder.free_bytes = Ok(bytes);
    says(free(5 << 30), "disk", Note, &["5.0 GiB", "/runs"]);
    says(free(1000), "disk", Mend, &["0.0 GiB"]);
    says(
        |f| f.folder.is_writable = false,
        "disk",
        Mend,
        &["/runs cannot be written"],
    );
    let unknown = |f: &mut Facts| f.folder.free_bytes = Err("/runs: gone".into());
    says(unknown, "disk", Note, &["/runs: gone"]);
}

/// A file below `root`, with the folders above it.
#[track_caller]
fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn facts_are_what_the_files_say() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let cpu = "sys/devices/system/cpu";
    let clock = "sys/devices/system/clocksource/clocksource0";
    for (path, text) in [
        ("proc/sys/kernel/osrelease", "6.1.0-rt\n".to_owned()),
        (
            "proc/version",
            "Linux version 6.1.0-rt SMP PREEMPT_RT\n".into(),
        ),
        ("sys/kernel/realtime", "1\n".into()),
        ("proc/sys/kernel/sched_rt_runtime_us", "950000\n".into()),
        ("proc/sys/kernel/sched_rt_period_us", "1000000\n".into()),
        (&format!("{cpu}/online"), "0-3\n".into()),
        (&format!("{cpu}/isolated"), "3\n".into()),
        (&format!("{cpu}/nohz_full"), "3\n".into()),
        (
            &format!("{cpu}/cpu0/cpufreq/scaling_governor"),
            "performance\n".into(),
        ),
        (&format!("{cpu}/cpu1/online"), "1\n".into()),
        (
            &format!("{cpu}/cpu3/cpufreq/scaling_governor"),
            "performance\n".into(),
        ),
        ("proc/irq/24/smp_affinity_list", "0-3\n".into()),
        ("proc/irq/24/effective_affinity_list", "0\n".into()),
        ("proc/irq/24/eth0/empty", String::new()),
        ("proc/irq/9/smp_affinity_list", "0-3\n".into()),
        (
            "proc/swaps",
            "Filename\tType\tSize\tUsed\tPriority\n".into(),
        ),
        (&format!("{clock}/current_clocksource"), "tsc\n".into()),
        (
            &format!("{clock}/available_clocksource"),
            "tsc hpet acpi_pm \n".into(),
        ),
    ] {
        put(root, path, &text);
    }
    assert_eq!(System::read(root, &Needs::default()), good().system);
}

#[test]
fn devices_are_found_once_and_the_rigs_first() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for path in ["dev/ttyUSB0", "dev/ttyUSB10", "dev/ttyUSB2", "dev/ttyACM0"] {
        put(root, path, "");
    }
    fs::create_dir_all(root.join("dev/serial/by-id")).unwrap();
    let by_id = |name: &str| root.join("dev/serial/by-id").join(name);
    symlink("../../ttyUSB0", by_id("usb-FTDI")).unwrap();
    symlink("../../ttyUSB7", by_id("usb-gone")).unwrap();
    let timer = "sys/bus/usb-serial/devices/ttyUSB0/latency_timer";
    put(root, timer, "16\n");
    for (path, text) in [
        ("dev/video0", ""),
        ("dev/video1", ""),
        ("sys/class/video4linux/video0/name", "Webcam: Webcam\n"),
        ("sys/class/video4linux/video0/index", "0\n"),
        ("sys/class/video4linux/video1/index", "1\n"),
        ("dev/input/event5", ""),
        ("sys/class/input/js0/device/name", "Pad\n"),
        ("sys/class/input/js0/device/event5/dev", ""),
        ("dev/hidraw1", ""),
        (
            "sys/class/hidraw/hidraw1/device/uevent",
            "DRIVER=hid-generic\nHID_ID=0003:0000256F:0000C635\nHID_NAME=SpaceMouse\n",
        ),
        (
            "sys/class/hidraw/hidraw2/device/uevent",
            "HID_ID=0003:0000046D:0000C52B\nHID_NAME=Receiver\n",
        ),
    ] {
        put(root, path, text);
    }
    let needs = Needs {
        ports: vec!["/dev/ttyUSB0".into(), "/dev/ttyUSB3".into()],
        cameras: vec!["/dev/video4".into()],
        ..Needs::default()
    };
    let system = System::read(root, &needs);
    let seen = |node: &Node| {
        (
            node.path.to_string_lossy().into_owned(),
            node.access,
            node.is_the_rigs,
        )
    };
    let ports: Vec<_> = system.ports.iter().map(|port| seen(&port.node)).collect();
    use Access::{Gone, Granted};
    let expected = [
        ("/dev/ttyUSB0", Granted, true),
        ("/dev/ttyUSB3", Gone, true),
        ("/dev/serial/by-id/usb-gone", Gone, false),
        ("/dev/ttyUSB2", Granted, false),
        ("/dev/ttyUSB10", Granted, false),
        ("/dev/ttyACM0", Granted, false),
    ];
    assert_eq!(
        ports,
        expected.map(|(path, access, own)| (path.to_owned(), access, own))
    );
    assert_eq!(system.ports[0].latency_timer_ms, Ok(Some(16)));
    let cameras: Vec<_> = system.cameras.iter().map(seen).collect();
    let expected = [("/dev/video4", Gone, true), ("/dev/video0", Granted, false)];
    assert_eq!(
        cameras,
        expected.map(|(path, access, own)| (path.to_owned(), access, own))
    );
    assert_eq!(system.cameras[1].name, "Webcam: Webcam");
    let hands: Vec<_> = system
        .hands
        .iter()
        .map(|node| (seen(node).0, node.name.as_str()))
        .collect();
    let expected = [("/dev/input/event5", "Pad"), ("/dev/hidraw1", "SpaceMouse")];
    assert_eq!(hands, expected.map(|(path, name)| (path.to_owned(), name)));
}

#[test]
fn on_a_machine_without_any_file_nothing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let facts = Facts {
        system: System::read(dir.path(), &Needs::default()),
        ..good()
    };
    let found = findings(&facts, &Needs::default());
    assert!(
        found.iter().all(|finding| finding.level != Mend),
        "{found:?}"
    );
}

#[test]
fn a_file_that_makes_no_sense_is_named_and_nothing_else_suffers() {
    let files = [
        ("sys/kernel/realtime", "yes"),
        ("proc/sys/kernel/sched_rt_runtime_us", "much"),
        ("sys/devices/system/cpu/online", "3-1"),
        ("sys/devices/system/cpu/isolated", "some"),
        ("proc/swaps", "\u{1}\u{2}"),
        ("sys/bus/usb-serial/devices/ttyUSB0/latency_timer", ""),
        ("proc/irq/24/effective_affinity_list", "-"),
    ];
    for (path, text) in files {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "dev/ttyUSB0", "");
        put(dir.path(), "proc/sys/kernel/sched_rt_period_us", "1000000");
        put(dir.path(), "sys/devices/system/cpu/online", "0-3");
        put(dir.path(), "proc/irq/24/eth0/empty", "");
        put(dir.path(), path, text);
        let facts = Facts {
            system: System::read(dir.path(), &Needs::default()),
            ..good()
        };
        let found = findings(&facts, &Needs::default());
        let about = |finding: &&Finding| finding.says.contains(path);
        assert!(found.iter().any(|f| about(&f)), "{path}: {found:?}");
        assert!(found.iter().all(|f| f.level != Mend), "{path}: {found:?}");
    }
    // Not text at all.
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "proc/version", "");
    fs::write(dir.path().join("proc/version"), [0xff, 0xfe, 0x00]).unwrap();
    let facts = Facts {
        system: System::read(dir.path(), &Needs::default()),
        ..good()
    };
    let kernel = &findings(&facts, &Needs::default())[0];
    assert_eq!((kernel.subject, kernel.level), ("kernel", Note));
    assert!(kernel.says.starts_with("/proc/version: "), "{kernel:?}");
}
