//! What a machine is like.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use hilt_realtime::{Missing, cores};
use hilt_sim::check_rendering_libraries;
use rustix::io::Errno;

use super::Needs;
use crate::inference::Engine;

/// What a file says: nothing when it is not there; when it cannot be read or understood, which file
/// and why.
pub type Said<T> = Result<Option<T>, String>;

/// All that is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What the kernel's files say.
    pub system: System,
    /// The core that control gets; none where there is only one.
    pub control_core: Option<usize>,
    /// What a thread that asked as the control thread does was not granted.
    pub missing: Vec<Missing>,
    /// What the programs load.
    pub libraries: Libraries,
    /// The working folder, where runs are kept.
    pub folder: Folder,
}

/// What the kernel's files say.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// `/proc/sys/kernel/osrelease`
    pub release: Said<String>,
    /// `/proc/version`
    pub version: Said<String>,
    /// `/sys/kernel/realtime`: 1 on a kernel with PREEMPT_RT.
    pub realtime: Said<u8>,
    /// Real-time threads together get so much of each period, microseconds; −1: all of it.
    pub rt_runtime_us: Said<i64>,
    /// That period, microseconds.
    pub rt_period_us: Said<i64>,
    /// Core and how its frequency is governed; only cores that have a governor.
    pub governors: Vec<(usize, Said<String>)>,
    /// Cores that run.
    pub online: Said<Vec<usize>>,
    /// Cores that the scheduler leaves alone.
    pub isolated: Said<Vec<usize>>,
    /// Cores without a regular tick.
    pub nohz_full: Said<Vec<usize>>,
    /// Interrupts that are in use.
    pub interrupts: Vec<Interrupt>,
    /// Where memory is swapped to.
    pub swaps: Said<Vec<String>>,
    /// Where the time comes from.
    pub clock_source: Said<String>,
    /// Where it could come from.
    pub clock_sources: Said<String>,
    /// Serial ports: the rig's and all others.
    pub ports: Vec<Port>,
    /// Cameras: the rig's and all others.
    pub cameras: Vec<Node>,
    /// Gamepads, and SpaceMice as raw devices.
    pub hands: Vec<Node>,
}

/// An interrupt.
#[derive(Clone, Debug, PartialEq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// Whose it is.
    pub name: String,
    /// Where it is served.
    pub cores: Said<Vec<usize>>,
}

/// What this user may do with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and write.
    Granted,
    /// Not both.
    Denied,
    /// There is no such device.
    Gone,
}

/// A device.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The path that a rig would name it by.
    pub path: PathBuf,
    /// What it calls itself; may be empty.
    pub name: String,
    /// What this user may do with it.
    pub access: Access,
    /// Whether the rig names it.
    pub is_the_rigs: bool,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The device; `name` is its name in `/dev`.
    pub node: Node,
    /// How long an FTDI adapter keeps received bytes to itself, milliseconds; others have no such
    /// timer.
    pub latency_timer_ms: Said<u32>,
}

/// What the programs load.
#[derive(Clone, Debug, PartialEq)]
pub struct Libraries {
    /// What ONNX Runtime runs on, or why it does not.
    pub onnx_runtime: Result<&'static str, String>,
    /// Whether simulated cameras can be rendered, or why not.
    pub rendering: Result<(), String>,
}

/// A folder that runs are kept in.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Whether this user may write there.
    pub is_writable: bool,
    /// Room that is left for this user, bytes.
    pub free_bytes: Result<u64, String>,
}

impl System {
    /// Reads the files below `root`, which is `/` but for tests.
    pub fn read(root: &Path, needs: &Needs) -> Self {
        let root = Root(root);
        let cpu = "sys/devices/system/cpu";
        let clock = "sys/devices/system/clocksource/clocksource0";
        Self {
            release: root.text("proc/sys/kernel/osrelease"),
            version: root.text("proc/version"),
            realtime: root.value("sys/kernel/realtime"),
            rt_runtime_us: root.value("proc/sys/kernel/sched_rt_runtime_us"),
            rt_period_us: root.value("proc/sys/kernel/sched_rt_period_us"),
            governors: root.governors(cpu),
            online: root.cores(&format!("{cpu}/online")),
            isolated: root.cores(&format!("{cpu}/isolated")),
            nohz_full: root.cores(&format!("{cpu}/nohz_full")),
            interrupts: root.interrupts(),
            swaps: root.swaps(),
            clock_source: root.text(&format!("{clock}/current_clocksource")),
            clock_sources: root.text(&format!("{clock}/available_clocksource")),
            ports: root.ports(&needs.ports),
            cameras: root.cameras(&needs.cameras),
            hands: root.hands(),
        }
    }
}

impl Libraries {
    /// Loads them as a run would.
    pub fn load(needs: &Needs) -> Self {
        let engine = Engine::open(&needs.providers, 1);
        Self {
            onnx_runtime: engine
                .map(|engine| engine.provider().name())
                .map_err(|error| error.to_string()),
            rendering: check_rendering_libraries().map_err(|error| error.to_string()),
        }
    }
}

impl Folder {
    /// Looks at one.
    pub fn look(path: &Path) -> Self {
        let free = |stat: rustix::fs::StatVfs| stat.f_bavail.saturating_mul(stat.f_frsize);
        Self {
            path: path.to_owned(),
            is_writable: rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
            free_bytes: rustix::fs::statvfs(path)
                .map(free)
                .map_err(|error| format!("{}: {error}", path.display())),
        }
    }
}

/// The folder that stands for `/`.
struct Root<'a>(&'a Path);

impl Root<'_> {
    fn text(&self, path: &str) -> Said<String> {
        match fs::read_to_string(self.0.join(path)) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("/{path}: {error}")),
        }
    }

    fn parsed<T>(&self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Said<T> {
        let Some(text) = self.text(path)? else {
            return Ok(None);
        };
        let shown: String = text.chars().take(40).collect();
        let unclear = || format!("/{path} says {shown:?}, which hilt does not understand");
        parse(&text).ok_or_else(unclear).map(Some)
    }

    fn value<T: FromStr>(&self, path: &str) -> Said<T> {
        self.parsed(path, |text| text.parse().ok())
    }

    fn cores(&self, path: &str) -> Said<Vec<usize>> {
        self.parsed(path, cores::parse)
    }

    /// What is in a folder, sorted; nothing when it cannot be read.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten();
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort_unstable();
        names
    }

    /// What is in a folder and called `prefix` and a number, in the order of these.
    fn numbered(&self, folder: &str, prefix: &str) -> Vec<(u32, String)> {
        let number = |name: String| {
            let number = name.strip_prefix(prefix)?.parse().ok()?;
            Some((number, name))
        };
        let mut numbered: Vec<_> = self.names(folder).into_iter().filter_map(number).collect();
        numbered.sort_unstable();
        numbered
    }

    fn governors(&self, cpu: &str) -> Vec<(usize, Said<String>)> {
        let governor = |(core, name): (u32, String)| {
            let said = self.text(&format!("{cpu}/{name}/cpufreq/scaling_governor"));
            (said != Ok(None)).then_some((core as usize, said))
        };
        let cores = self.numbered(cpu, "cpu").into_iter();
        cores.filter_map(governor).collect()
    }

    /// An interrupt that has a handler has a folder with the handler's name.
    fn interrupts(&self) -> Vec<Interrupt> {
        let interrupt = |(number, folder): (u32, String)| {
            let folder = format!("proc/irq/{folder}");
            let is_folder = |name: &String| self.0.join(&folder).join(name).is_dir();
            let name = self.names(&folder).into_iter().find(is_folder)?;
            let effective = self.cores(&format!("{folder}/effective_affinity_list"));
            let cores = match effective {
                // Not every interrupt has a say in where it goes.
                Ok(cores) if cores.as_ref().is_none_or(Vec::is_empty) => {
                    self.cores(&format!("{folder}/smp_affinity_list"))
                }
                cores => cores,
            };
            Some(Interrupt {
                number,
                name,
                cores,
            })
        };
        let numbers = self.numbered("proc/irq", "").into_iter();
        numbers.filter_map(interrupt).collect()
    }

    fn swaps(&self) -> Said<Vec<String>> {
        self.parsed("proc/swaps", |text| {
            let mut lines = text.lines();
            let head = lines.next().unwrap_or_default();
            let name = |line: &str| Some(line.split_whitespace().next()?.to_owned());
            (head.is_empty() || head.starts_with("Filename"))
                .then(|| lines.filter_map(name).collect())
        })
    }

    fn access(&self, path: &Path) -> Access {
        use rustix::fs::Access as Wish;
        let inside = path.strip_prefix("/").unwrap_or(path);
        match rustix::fs::access(self.0.join(inside), Wish::READ_OK | Wish::WRITE_OK) {
            Ok(()) => Access::Granted,
            Err(Errno::NOENT) => Access::Gone,
            Err(_) => Access::Denied,
        }
    }

    /// The name in `/dev` of what `path` leads to; its own last part where it leads nowhere.
    fn device_name(&self, path: &Path) -> String {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let place = self.0.join(inside);
        let end = fs::canonicalize(&place).unwrap_or(place);
        let name = end.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// `wanted`, then of `all` what is no other name of it.
    fn nodes(
        &self,
        wanted: &[PathBuf],
        all: Vec<PathBuf>,
        name: impl Fn(&Path) -> String,
    ) -> Vec<Node> {
        let mut seen = Vec::new();
        let mut nodes = Vec::new();
        let wanted = wanted.iter().map(|path| (path.clone(), true));
        for (path, is_the_rigs) in wanted.chain(all.into_iter().map(|path| (path, false))) {
            let device = self.device_name(&path);
            if seen.contains(&device) {
                continue;
            }
            seen.push(device);
            nodes.push(Node {
                name: name(&path),
                access: self.access(&path),
                path,
                is_the_rigs,
            });
        }
        nodes
    }

    fn ports(&self, wanted: &[PathBuf]) -> Vec<Port> {
        let by_id = "dev/serial/by-id";
        let mut all: Vec<PathBuf> = (self.names(by_id).iter())
            .map(|name| Path::new("/").join(by_id).join(name))
            .collect();
        for kind in ["ttyUSB", "ttyACM"] {
            let plain = self.numbered("dev", kind).into_iter();
            all.extend(plain.map(|(_, name)| Path::new("/dev").join(name)));
        }
        let port = |node: Node| Port {
            latency_timer_ms: self.value(&format!(
                "sys/bus/usb-serial/devices/{}/latency_timer",
                node.name
            )),
            node,
        };
        let nodes = self.nodes(wanted, all, |path| self.device_name(path));
        nodes.into_iter().map(port).collect()
    }

    /// A camera's first node gives frames, the others tell about them.
    fn cameras(&self, wanted: &[PathBuf]) -> Vec<Node> {
        let class = |name: &str, file: &str| {
            let said = self.text(&format!("sys/class/video4linux/{name}/{file}"));
            said.ok().flatten()
        };
        let gives_frames =
            |(_, name): &(u32, String)| class(name, "index").is_none_or(|index| index == "0");
        let all = self.numbered("dev", "video").into_iter();
        let all = all.filter(gives_frames);
        let all = all.map(|(_, name)| Path::new("/dev").join(name)).collect();
        self.nodes(wanted, all, |path| {
            class(&self.device_name(path), "name").unwrap_or_default()
        })
    }

    fn hands(&self) -> Vec<Node> {
        let gamepads = self.numbered("sys/class/input", "js").into_iter();
        let gamepads = gamepads.filter_map(|(_, js)| {
            let device = format!("sys/class/input/{js}/device");
            let (_, event) = self.numbered(&device, "event").into_iter().next()?;
            let name = self.text(&format!("{device}/name")).ok().flatten();
            Some((Path::new("/dev/input").join(event), name))
        });
        let mice = self.numbered("sys/class/hidraw", "hidraw").into_iter();
        let mice = mice.filter_map(|(_, raw)| {
            let about = self.text(&format!("sys/class/hidraw/{raw}/device/uevent"));
            let about = about.ok().flatten()?;
            let line = |key: &str| about.lines().find_map(|line| line.strip_prefix(key));
            // 3Dconnexion, and its older devices under Logitech's number.
            let id = line("HID_ID=")?.to_ascii_uppercase();
            let is_mouse = id.contains(":0000256F:") || id.contains(":0000046D:0000C6");
            let name = line("HID_NAME=").map(str::to_owned);
            is_mouse.then(|| (Path::new("/dev").join(raw), name))
        });
        let node = |(path, name): (PathBuf, Option<String>)| Node {
            access: self.access(&path),
            name: name.unwrap_or_default(),
            path,
            is_the_rigs: false,
        };
        gamepads.chain(mice).map(node).collect()
    }
}
