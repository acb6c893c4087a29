//! Fetches the native libraries that hilt links or opens: libtorch, ONNX Runtime and MuJoCo, all
//! from wheels on the Python package index, unpacked into the ignored `.native/`. Gymnasium's models,
//! which policies are evaluated on, and the Python packages that tests compare with (OpenCV; [`python`]
//! those that files are exchanged with), come the same way.
//!
//! A library counts as installed when its stamp (`.native/<name>.json`) names the pinned version
//! and every file has the size written there. The stamp is written last and renamed into place, so
//! an interrupted setup is never mistaken for a finished one and simply goes on the next time.

mod python;

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One native library: where it comes from and what of it is kept.
struct Library {
    /// Folder under `.native/`.
    name: &'static str,
    /// Variable with which a user points to a copy of their own.
    variable: &'static str,
    /// What `.cargo/config.toml` sets that variable to, under `.native/`.
    default: &'static str,
    /// Wheels that are enough on a machine without an NVIDIA GPU.
    wheels: &'static [&'static str],
    /// Which files of the wheels are kept, and under which path.
    keep: fn(&str) -> Option<String>,
}

const LIBTORCH: Library = Library {
    name: "libtorch",
    variable: "LIBTORCH",
    default: "libtorch/torch",
    // libtorch_cpu itself needs the CUDA runtime and CUPTI, also where there is no GPU.
    wheels: &[
        "torch==2.11.0",
        "nvidia-cuda-cupti==13.0.85",
        "nvidia-cuda-runtime==13.0.96",
    ],
    keep: |path| {
        let cpu = [
            "libtorch.so",
            "libtorch_cpu.so",
            "libc10.so",
            "libgomp.so.1",
            "libshm.so",
            "libtorch_global_deps.so",
        ];
        let wanted = match path.strip_prefix("torch/lib/") {
            Some(file) => cpu.contains(&file),
            None => {
                path.starts_with("torch/include/")
                    || path == "torch/version.py"
                    || (path.starts_with("nvidia/") && path.contains(".so"))
            }
        };
        wanted.then(|| path.to_owned())
    },
};

const LIBTORCH_CUDA: Library = Library {
    wheels: &["torch==2.11.0"],
    keep: |path| {
        let wanted = path.starts_with("torch/include/")
            || path.starts_with("torch/lib/")
            || path == "torch/version.py"
            || (path.starts_with("nvidia/") && path.contains(".so"));
        wanted.then(|| path.to_owned())
    },
    ..LIBTORCH
};

const ONNXRUNTIME: Library = Library {
    name: "onnxruntime",
    variable: "ORT_DYLIB_PATH",
    default: "onnxruntime/libonnxruntime.so",
    wheels: &["onnxruntime==1.31.1"],
    keep: |path| {
        let library = path.strip_prefix("onnxruntime/capi/")?;
        library
            .starts_with("libonnxruntime.so")
            .then(|| "libonnxruntime.so".to_owned())
    },
};

/// With the CUDA and TensorRT providers, which lie beside the library.
const ONNXRUNTIME_CUDA: Library = Library {
    wheels: &["onnxruntime-gpu==1.31.1"],
    keep: |path| {
        let library = path.strip_prefix("onnxruntime/capi/lib")?;
        let version = library.strip_prefix("onnxruntime.so");
        Some(match version {
            Some(_) => "libonnxruntime.so".to_owned(),
            None => format!("lib{library}"),
        })
    },
    ..ONNXRUNTIME
};

const MUJOCO: Library = Library {
    name: "mujoco",
    variable: "MUJOCO_DYNAMIC_LINK_DIR",
    default: "mujoco",
    wheels: &["mujoco==3.17.0"],
    keep: |path| (path == "mujoco/libmujoco.so.3.17.0").then(|| "libmujoco.so.3.17.0".to_owned()),
};

/// The models of the tasks that `hilt_sim::locomotion` knows.
const GYMNASIUM: Library = Library {
    name: "gymnasium",
    variable: "GYMNASIUM_ASSETS",
    default: "gymnasium",
    wheels: &["gymnasium==1.4.0"],
    keep: |path| {
        let models = [
            "hopper.xml",
            "half_cheetah.xml",
            "walker2d.xml",
            "walker2d_v5.xml",
        ];
        let file = path.strip_prefix("gymnasium/envs/mujoco/assets/")?;
        models.contains(&file).then(|| file.to_owned())
    },
};

/// What calibration is compared with in tests: a Python package with its one dependency, for the
/// `python3` that fetches it.
const OPENCV: Library = Library {
    name: "opencv",
    variable: "OPENCV_PYTHONPATH",
    default: "opencv",
    // Of numpy the newest that Python 3.11 can run.
    wheels: &["opencv-python-headless==4.14.0.94", "numpy==2.4.6"],
    keep: |path| {
        let packages = [
            "cv2/",
            "numpy/",
            "numpy.libs/",
            "opencv_python_headless.libs/",
        ];
        let wanted = packages.iter().any(|package| path.starts_with(package));
        (wanted && !path.contains("/tests/")).then(|| path.to_owned())
    },
};

/// Debian packages without which the simulator cannot render, and a file that shows each is there.
const PACKAGES: [(&str, &str); 3] = [
    ("libegl1", "libEGL.so.1"),
    ("libgl1", "libGL.so.1"),
    ("libegl-mesa0", "libEGL_mesa.so.0"),
];

/// That whose program makes videos.
const VIDEO_PACKAGES: [(&str, &str); 1] = [("ffmpeg", "ffmpeg")];

/// Those whose programs the benchmark of the control loop runs.
const LOOP_PACKAGES: [(&str, &str); 2] = [("rt-tests", "cyclictest"), ("stress-ng", "stress-ng")];

/// That which runs the virtual machine, and those that make what it runs.
const MACHINE_PACKAGES: [(&str, &str); 4] = [
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("make", "make"),
    ("xz-utils", "xz"),
    ("binutils", "strip"),
];

#[derive(Serialize, Deserialize)]
struct Stamp {
    wheels: Vec<String>,
    files: BTreeMap<String, FileStamp>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct FileStamp {
    bytes: u64,
    sha256: String,
}

/// Installs what is missing; says nothing and does nothing when all is there.
pub fn run(root: &Path) -> Result<()> {
    let native = root.join(".native");
    fs::create_dir_all(&native).with_context(|| format!("cannot create {}", native.display()))?;
    let libraries = match nvidia_gpu() {
        true => [LIBTORCH_CUDA, ONNXRUNTIME_CUDA, MUJOCO, GYMNASIUM],
        false => [LIBTORCH, ONNXRUNTIME, MUJOCO, GYMNASIUM],
    };
    for library in libraries {
        if !is_overridden(&native, &library) && !is_installed(&native, &library) {
            install(&native, &library).with_context(|| format!("installing {}", library.name))?;
        }
    }
    let link = native.join("mujoco/libmujoco.so");
    if native.join("mujoco/libmujoco.so.3.17.0").exists() && !link.exists() {
        std::os::unix::fs::symlink("libmujoco.so.3.17.0", &link).context("linking libmujoco.so")?;
    }
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    debian_packages(&PACKAGES, folders.iter().map(PathBuf::from))
}

/// Installs what tests compare with.
pub fn peers(root: &Path) -> Result<()> {
    let native = root.join(".native");
    opencv(&native)?;
    python::run(&native)
}

fn opencv(native: &Path) -> Result<()> {
    if is_overridden(native, &OPENCV) {
        return Ok(());
    }
    let place = native.join(OPENCV.name);
    // Its modules fit one version of Python; another may be the `python3` of today.
    let imports = || {
        let mut python = Command::new("python3");
        python.args(["-c", "import cv2"]).env("PYTHONPATH", &place);
        python
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    if !is_installed(native, &OPENCV) || !imports() {
        install(native, &OPENCV).context("installing opencv")?;
        ensure!(
            imports(),
            "python3 cannot import cv2 from {}; see why with: PYTHONPATH={0} python3 -c 'import cv2'",
            place.display()
        );
    }
    Ok(())
}

/// Installs what the benchmark of the control loop runs.
pub fn loop_programs() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    debian_packages(&LOOP_PACKAGES, env::split_paths(&path))
}

/// Installs the program that makes videos.
pub fn video_program() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    debian_packages(&VIDEO_PACKAGES, env::split_paths(&path))
}

/// Installs what runs the virtual machine.
pub fn machine_program() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    debian_packages(&MACHINE_PACKAGES, env::split_paths(&path))
}

fn nvidia_gpu() -> bool {
    let quiet = Command::new("nvidia-smi")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// Whether the user's own copy is to be used. Cargo sets the variable itself, to our place.
fn is_overridden(native: &Path, library: &Library) -> bool {
    let Some(value) = env::var_os(library.variable) else {
        return false;
    };
    let ours = native.join(library.default);
    // The folder alone: the program of a virtual environment is a link to one that others are of, too.
    let folder = |path: &Path| {
        path.parent()
            .and_then(|folder| fs::canonicalize(folder).ok())
    };
    let value = Path::new(&value);
    let same = value == ours
        || value.file_name() == ours.file_name()
            && folder(value).is_some_and(|place| Some(place) == folder(&ours));
    !same
}

fn stamp_path(native: &Path, library: &Library) -> PathBuf {
    native.join(format!("{}.json", library.name))
}

fn is_installed(native: &Path, library: &Library) -> bool {
    let stamp = fs::read(stamp_path(native, library)).ok();
    let Some(stamp) = stamp.and_then(|bytes| serde_json::from_slice::<Stamp>(&bytes).ok()) else {
        return false;
    };
    stamp.wheels == library.wheels
        && stamp.files.iter().all(|(path, file)| {
            fs::metadata(native.join(library.name).join(path)).is_ok_and(|m| m.len() == file.bytes)
        })
}

fn install(native: &Path, library: &Library) -> Result<()> {
    let wheels = native.join(format!("{}.wheels", library.name));
    println!("fetching {} ({})", library.name, library.wheels.join(", "));
    // pip leaves finished wheels in place, so an interrupted download goes on with the next one.
    let with_dependencies = library.wheels == LIBTORCH_CUDA.wheels && library.name == "libtorch";
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--only-binary=:all:",
    ]);
    if !with_dependencies {
        pip.arg("--no-deps");
    }
    let status = pip.arg("--dest").arg(&wheels).args(library.wheels).status();
    let status = status
        .context("cannot run python3; install it with: apt-get install python3 python3-pip")?;
    ensure!(
        status.success(),
        "pip could not download {} ({status})",
        library.wheels.join(", ")
    );

    let partial = native.join(format!("{}.partial", library.name));
    remove_dir(&partial)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&wheels).context("reading the downloaded wheels")? {
        let wheel = entry?.path();
        if wheel.extension().is_some_and(|e| e == "whl") {
            unpack(&wheel, &partial, library.keep, &mut files)
                .with_context(|| format!("unpacking {}", wheel.display()))?;
        }
    }
    ensure!(
        !files.is_empty(),
        "the wheels of {} hold no file that hilt knows",
        library.name
    );
    if library.name == "libtorch" {
        let version = fs::read_to_string(partial.join("torch/version.py"))
            .context("reading torch/version.py")?;
        ensure!(
            version.contains("2.11.0"),
            "the wheel is not torch 2.11.0:\n{version}"
        );
    }
    let place = native.join(library.name);
    remove_dir(&place)?;
    fs::rename(&partial, &place).with_context(|| format!("moving {} into place", library.name))?;
    let stamp = Stamp {
        wheels: library.wheels.iter().map(|&w| w.to_owned()).collect(),
        files,
    };
    let beside = native.join(format!("{}.json.partial", library.name));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec_pretty(&stamp)?)?;
    file.sync_all()?;
    fs::rename(&beside, stamp_path(native, library))?;
    remove_dir(&wheels)
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn unpack(
    wheel: &Path,
    place: &Path,
    keep: fn(&str) -> Option<String>,
    files: &mut BTreeMap<String, FileStamp>,
) -> Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let bar = ProgressBar::new(archive.len() as u64).with_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}")
            .context("progress bar template")?,
    );
    for i in 0..archive.len() {
        bar.inc(1);
        let mut member = archive.by_index(i)?;
        // `enclosed_name` refuses paths that lead out of the folder.
        let Some(name) = member.enclosed_name() else {
            bail!("the wheel has a member with an unsafe path")
        };
        if member.is_dir() {
            continue;
        }
        let Some(kept) = keep(&name.to_string_lossy()) else {
            continue;
        };
        let target = place.join(&kept);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        // The zip's CRC is checked by the reader; the hash is for whoever wants to compare later.
        let (mut out, mut hash, mut bytes) = (File::create(&target)?, Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = member.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n])?;
            hash.update(&buffer[..n]);
            bytes += n as u64;
        }
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        files.insert(kept, FileStamp { bytes, sha256 });
    }
    bar.finish_and_clear();
    Ok(())
}

/// Installs those packages whose file is in none of the folders.
fn debian_packages(
    packages: &[(&str, &str)],
    folders: impl Iterator<Item = PathBuf>,
) -> Result<()> {
    let folders: Vec<PathBuf> = folders.collect();
    let present = |file: &str| folders.iter().any(|folder| folder.join(file).exists());
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, file)| !present(file))
        .map(|&(package, _)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout.starts_with(b"0"));
    ensure!(
        root,
        "packages are missing; run as root:\n  apt-get update && {command}"
    );
    println!("installing {}", missing.join(" "));
    let script = format!("apt-get update -qq && DEBIAN_FRONTEND=noninteractive {command} -qq");
    let status = Command::new("sh")
        .args(["-c", &script])
        .status()
        .context("cannot run apt-get")?;
    ensure!(status.success(), "`{command}` failed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Library = Library {
        name: "tiny",
        variable: "HILT_TEST_NO_SUCH_VARIABLE",
        default: "tiny",
        wheels: &["tiny==1"],
        keep: |path| path.strip_prefix("tiny/").map(str::to_owned),
    };

    fn wheel(path: &Path) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        for (name, text) in [("tiny/lib.so", "library"), ("other/file", "not wanted")] {
            zip.start_file(name, options).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn only_wanted_files_are_unpacked_and_stamped() {
        let dir = tempfile::tempdir().unwrap();
        wheel(&dir.path().join("tiny.whl"));
        let mut files = BTreeMap::new();
        unpack(
            &dir.path().join("tiny.whl"),
            &dir.path().join("out"),
            TINY.keep,
            &mut files,
        )
        .unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["lib.so"]);
        assert_eq!(files["lib.so"].bytes, 7);
        assert!(!dir.path().join("out/other").exists());
    }

    #[test]
    fn a_missing_cut_or_older_library_is_not_taken_for_installed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_installed(dir.path(), &TINY));
        let stamp = |version: &str| {
            let files = [(
                "lib.so".to_owned(),
                FileStamp {
                    bytes: 7,
                    sha256: String::new(),
                },
            )]
            .into();
            let stamp = Stamp {
                wheels: vec![version.to_owned()],
                files,
            };
            fs::write(
                stamp_path(dir.path(), &TINY),
                serde_json::to_vec(&stamp).unwrap(),
            )
            .unwrap();
        };
        stamp("tiny==1");
        assert!(!is_installed(dir.path(), &TINY), "the file is missing");
        fs::create_dir(dir.path().join("tiny")).unwrap();
        fs::write(dir.path().join("tiny/lib.so"), "libr").unwrap();
        assert!(!is_installed(dir.path(), &TINY), "the file is cut");
        fs::write(dir.path().join("tiny/lib.so"), "library").unwrap();
        assert!(is_installed(dir.path(), &TINY));
        stamp("tiny==0");
        assert!(!is_installed(dir.path(), &TINY), "the version is another");
    }

    #[test]
    fn of_opencv_the_packages_are_kept_and_not_their_tests() {
        for path in [
            "cv2/cv2.abi3.so",
            "numpy.libs/libgfortran.so",
            "numpy/linalg/linalg.py",
        ] {
            assert_eq!((OPENCV.keep)(path).as_deref(), Some(path));
        }
        assert_eq!((OPENCV.keep)("numpy/linalg/tests/test_linalg.py"), None);
        assert_eq!((OPENCV.keep)("numpy-2.4.6.dist-info/METADATA"), None);
    }

    #[test]
    fn of_gymnasium_only_the_models_of_our_tasks_are_kept() {
        let keep = |file| (GYMNASIUM.keep)(&format!("gymnasium/envs/mujoco/{file}"));
        assert_eq!(keep("assets/hopper.xml").as_deref(), Some("hopper.xml"));
        assert_eq!(keep("assets/ant.xml"), None);
        assert_eq!(keep("hopper_v5.py"), None);
    }

    #[test]
    fn the_cpu_build_leaves_the_gpu_libraries_out() {
        assert!((LIBTORCH.keep)("torch/lib/libtorch_cpu.so").is_some());
        assert!((LIBTORCH.keep)("torch/lib/libtorch_cuda.so").is_none());
        assert!((LIBTORCH_CUDA.keep)("torch/lib/libtorch_cuda.so").is_some());
        for library in [ONNXRUNTIME, ONNXRUNTIME_CUDA] {
            assert_eq!(
                (library.keep)("onnxruntime/capi/libonnxruntime.so.1.31.1").as_deref(),
                Some("libonnxruntime.so")
            );
        }
        let provider = "libonnxruntime_providers_cuda.so";
        let path = format!("onnxruntime/capi/{provider}");
        assert_eq!((ONNXRUNTIME.keep)(&path), None);
        assert_eq!((ONNXRUNTIME_CUDA.keep)(&path).as_deref(), Some(provider));
    }
}
