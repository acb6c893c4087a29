//! What files of other programs are tried with in tests: those programs themselves, in a virtual environment of
//! their own, `.native/python`.
//!
//! The packages come as wheels that are unpacked and stamped like the native libraries, into `packages/` of the
//! environment; a `.pth` file shows them to its Python. So nothing is needed of Debian's `python3-venv`.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{Library, install, is_installed, is_overridden};

/// `lerobot` with what its datasets and its replay buffer import, numpy, h5py and mcap.
const PYTHON: Library = Library {
    name: "python",
    variable: "HILT_PYTHON",
    default: "python/bin/python",
    // As pip chooses them for lerobot 0.4.4 today, but for numpy, of which it writes nothing with 2.4.
    wheels: &[
        "lerobot==0.4.4",
        "accelerate==1.15.0",
        "aiohappyeyeballs==2.7.1",
        "aiohttp==3.14.5",
        "aiosignal==1.4.0",
        "anyio==4.16.0",
        "attrs==26.1.0",
        "av==15.1.0",
        "certifi==2026.10.18",
        "charset-normalizer==3.5.2",
        "datasets==4.8.5",
        "dill==0.4.1",
        "filelock==4.2.11",
        "frozenlist==1.8.0",
        "fsspec==2026.2.0",
        "h11==0.16.0",
        "h5py==3.16.0",
        "httpcore==1.0.9",
        "httpx==0.28.1",
        "huggingface-hub==0.35.3",
        "idna==3.20",
        "Jinja2==3.1.6",
        "lz4==4.4.5",
        "MarkupSafe==3.0.4",
        "mcap==1.6.0",
        "mcap-protobuf-support==0.6.0",
        "mpmath==1.3.0",
        "multidict==7.2.1",
        "multiprocess==0.70.19",
        "networkx==3.6.1",
        "numpy==2.2.6",
        "nvidia-cuda-cupti-cu12==12.8.90",
        "nvidia-cuda-runtime-cu12==12.8.90",
        "packaging==25.0",
        "pandas==3.1.1",
        "pillow==13.0.0",
        "propcache==0.5.4",
        "protobuf==6.31.1",
        "psutil==7.2.2",
        "pyarrow==26.0.1",
        "python-dateutil==4.0.0",
        "PyYAML==6.0.3",
        "requests==2.34.2",
        "safetensors==0.8.0",
        "sympy==1.14.0",
        "torch==2.10.0",
        "torchcodec==0.10.0",
        "torchvision==0.25.0",
        "tqdm==4.70.1",
        "typing_extensions==4.16.0",
        "tzdata==2026.6",
        "urllib3==2.8.0",
        "xxhash==4.1.0",
        "yarl==1.25.1",
        "zstandard==0.25.0",
    ],
    keep: |path| {
        let left_out = [
            "/tests/",
            "/include/",
            ".data/",
            "torch/lib/libtorch_cuda_linalg.so",
        ];
        let wanted = !left_out.iter().any(|part| path.contains(part))
            && (!path.starts_with("torch/bin/") || path.ends_with("/torch_shm_manager"));
        wanted.then(|| format!("packages/{path}"))
    },
};

/// torch on Linux is made for NVIDIA's libraries, 2.7 GB, and does not start without them, also where there is no
/// GPU. This makes a library that has their names and nothing behind them; on a processor none is ever called.
const STAND_IN: &str = r#"
set -e
names=$(nm -D --undefined-only libtorch_cuda.so libtorch_nvshmem.so libtorch_python.so |
    sed -nE 's/^ +U ((cublas|cudnn|cufft|curand|cusparse|cuFile|nccl|nvshmem)\w*)(@(.*))?$/\1 \4/p' | sort -u)
echo "$names" |
    awk 'NF == 2 {of[$2] = of[$2] " " $1 ";"} END {for (v in of) print v " {" of[v] " };"}' > no_gpu.versions
echo "$names" | awk '{print ".globl " $1 "\n" $1 ":"}' |
    cc -shared -nostdlib -x assembler -Wl,--version-script=no_gpu.versions -o libno_gpu.so -
for library in libcublas.so.12 libcublasLt.so.12 libcudnn.so.9 libcufft.so.11 libcufile.so.0 libcurand.so.10 \
    libcusparse.so.12 libcusparseLt.so.0 libnccl.so.2 libnvshmem_host.so.3
do ln -sf libno_gpu.so $library
done
"#;

/// Imports what does not start on another version of Python, nor without the library that stands in.
const LOOK: &str = "import torch, h5py";
/// Imports all.
const TRY: &str =
    "import lerobot.datasets.lerobot_dataset, lerobot.rl.buffer, h5py, mcap_protobuf.decoder";

/// Installs them, if they are not there.
pub fn run(native: &Path) -> Result<()> {
    if is_overridden(native, &PYTHON) {
        return Ok(());
    }
    let place = native.join(PYTHON.name);
    let program = place.join("bin/python");
    let can = |script: &str| {
        let mut python = Command::new(&program);
        python
            .args(["-c", script])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        python.status().is_ok_and(|status| status.success())
    };
    if is_installed(native, &PYTHON) && can(LOOK) {
        return Ok(());
    }
    install(native, &PYTHON).context("installing the Python programs that tests run")?;
    let torch = place.join("packages/torch/lib");
    // Where torch is made for processors alone there is none to stand in for.
    if torch.join("libtorch_cuda.so").exists() {
        let mut script = Command::new("sh");
        let status = script.args(["-c", STAND_IN]).current_dir(&torch).status();
        ensure!(
            status.context("cannot run sh")?.success(),
            "no library could stand in for NVIDIA's; it needs: apt-get install gcc binutils"
        );
    }
    environment(&place)?;
    ensure!(
        can(TRY),
        "the Python programs that tests run do not start; see why with: {} -c '{TRY}'",
        program.display()
    );
    Ok(())
}

/// Makes the virtual environment around the packages.
fn environment(place: &Path) -> Result<()> {
    let mut python = Command::new("python3");
    let status = python
        .args(["-m", "venv", "--without-pip"])
        .arg(place)
        .status();
    ensure!(
        status.context("cannot run python3")?.success(),
        "python3 could not make a virtual environment in {}",
        place.display()
    );
    for version in fs::read_dir(place.join("lib"))? {
        let site = version?.path().join("site-packages");
        fs::write(site.join("hilt.pth"), "../../../packages\n")
            .with_context(|| format!("writing into {}", site.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_packages_all_is_kept_but_tests_headers_and_programs() {
        let keep = |path| (PYTHON.keep)(path);
        let kept = "lerobot/datasets/utils.py";
        assert_eq!(keep(kept), Some(format!("packages/{kept}")));
        // `datasets` asks for the versions of others.
        assert!(keep("pandas-3.1.1.dist-info/METADATA").is_some());
        assert!(keep("torch/lib/libtorch_cuda.so").is_some());
        for path in [
            "pandas/tests/test_algos.py",
            "torch/include/ATen/ATen.h",
            "torch/bin/test_jit",
            "torch-2.10.0.data/purelib/x",
        ] {
            assert_eq!(keep(path), None);
        }
    }
}
