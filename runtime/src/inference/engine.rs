//! ONNX Runtime, opened once per process.

use std::path::PathBuf;

use ort::{environment::Environment, session::Session};
use serde::{Deserialize, Serialize};

use super::cuda;

/// Where the graphs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    Tensorrt,
    /// NVIDIA CUDA.
    Cuda,
    /// The processor.
    Cpu,
}

impl Provider {
    /// Its name in a rig's file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensorrt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        }
    }
}

/// Why no graph can run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The library is missing.
    #[error(
        "ONNX Runtime was not found at `{0}`; run `cargo xtask setup`, or set ORT_DYLIB_PATH to libonnxruntime.so"
    )]
    LibraryMissing(PathBuf),
    /// The library refused.
    #[error("ONNX Runtime: {0}")]
    Library(String),
    /// None of the providers of the rig file works here.
    #[error("none of the providers {0} works on this machine; add \"cpu\" to `providers`")]
    NoProvider(String),
    /// The graph's bytes are not a model that this library takes.
    #[error("the {graph} graph was refused by ONNX Runtime: {reason}")]
    Graph {
        /// Which graph.
        graph: &'static str,
        /// The library's words.
        reason: String,
    },
    /// A graph has an input or output that the contract does not know.
    #[error("the {graph} graph has no {what} `{name}` of the type that the contract asks for")]
    Contract {
        /// Which graph.
        graph: &'static str,
        /// input or output.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The policy was made for actions of another rig.
    #[error(
        "the policy graph's input `noise` has {columns} columns, but this rig's actions have {action}, \
         {motion} of them motion; take a policy that was trained for this rig"
    )]
    NoiseColumns {
        /// Those of the graph.
        columns: usize,
        /// Columns of this rig's actions.
        action: usize,
        /// Those of them that hold motion.
        motion: usize,
    },
}

/// y = x for one f32, as an ONNX model (ir 8, opset 17): what a provider is tried on. That a library
/// was built with a provider says nothing about the machine.
const IDENTITY: &[u8] = b"\x08\x08\x42\x02\x10\x11\x3a\x37\
    \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01";

/// The open library and how to make sessions with it.
pub struct Engine {
    environment: Environment,
    provider: Provider,
    threads: usize,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Engine({} threads on {})",
            self.threads,
            self.provider.name()
        )
    }
}

/// `ORT_DYLIB_PATH`, or the library that `cargo xtask setup` put beside the sources or the binary.
fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let native = "onnxruntime/libonnxruntime.so";
    let from_exe = std::env::current_exe().ok().and_then(|exe| {
        exe.ancestors()
            .map(|dir| dir.join(".native").join(native))
            .find(|p| p.exists())
    });
    from_exe.unwrap_or_else(|| PathBuf::from(".native").join(native))
}

impl Engine {
    /// Opens the library and takes the first provider of `wanted` that works.
    ///
    /// `threads` are ONNX Runtime's own per session; they never spin, because a spinning pool
    /// steals the core that the control loop needs.
    pub fn open(wanted: &[Provider], threads: usize) -> Result<Self, EngineError> {
        let path = library();
        if !path.exists() {
            return Err(EngineError::LibraryMissing(path));
        }
        let environment = ort::init_from(&path)
            .map_err(|e| EngineError::Library(e.to_string()))?
            .with_name("hilt")
            .with_telemetry(false)
            .build()
            .map_err(|e| EngineError::Library(e.to_string()))?;
        if wanted.iter().any(|&p| p != Provider::Cpu) {
            cuda::preload(&path);
        }
        let works = |&provider: &Provider| match session(&environment, provider, 1, IDENTITY) {
            Ok(_) => true,
            Err(reason) => {
                tracing::warn!("{} is not to be had here: {reason}", provider.name());
                false
            }
        };
        let names = || wanted.iter().map(|p| p.name()).collect::<Vec<_>>();
        let provider = (wanted.iter().copied().find(works))
            .ok_or_else(|| EngineError::NoProvider(names().join(", ")))?;
        tracing::info!(provider = provider.name(), threads, "ONNX Runtime is open");
        Ok(Self {
            environment,
            provider,
            threads,
        })
    }

    /// The provider that was got.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// A bare session for a graph, with the provider and the threads that heads get; `graph` names
    /// it in errors.
    pub fn session(&self, graph: &'static str, onnx: &[u8]) -> Result<Session, EngineError> {
        session(&self.environment, self.provider, self.threads, onnx).map_err(|e| {
            let reason = e.to_string();
            EngineError::Graph { graph, reason }
        })
    }
}

fn session(
    environment: &Environment,
    provider: Provider,
    threads: usize,
    onnx: &[u8],
) -> Result<Session, ort::Error> {
    let builder = Session::builder(environment)?
        .with_intra_threads(threads)?
        .with_intra_op_spinning(false)?;
    let mut builder = match provider {
        Provider::Cpu => builder,
        Provider::Cuda => builder
            .with_execution_providers([ort::ep::CUDA::default().build().error_on_failure()])?,
        Provider::Tensorrt => builder.with_execution_providers([
            ort::ep::TensorRT::default().build().error_on_failure(),
            ort::ep::CUDA::default().build(),
        ])?,
    };
    builder.commit_from_memory(onnx)
}
