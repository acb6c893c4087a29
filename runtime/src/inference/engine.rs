//! ONNX Runtime, opened once per process.

use std::path::PathBuf;

use ort::{environment::Environment, ep::ExecutionProvider, session::Session};
use serde::{Deserialize, Serialize};

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
}

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
        let works = |provider: &Provider| match provider {
            Provider::Tensorrt => ort::ep::TensorRT::is_available().unwrap_or(false),
            Provider::Cuda => ort::ep::CUDA::is_available().unwrap_or(false),
            Provider::Cpu => true,
        };
        let provider = wanted.iter().copied().find(works).ok_or_else(|| {
            EngineError::NoProvider(
                wanted
                    .iter()
                    .map(|p| p.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            )
        })?;
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
        let refuse = |reason: String| EngineError::Graph { graph, reason };
        let builder = Session::builder(&self.environment).map_err(|e| refuse(e.to_string()))?;
        let builder = builder
            .with_intra_threads(self.threads)
            .map_err(|e| refuse(e.to_string()))?;
        let builder = builder
            .with_intra_op_spinning(false)
            .map_err(|e| refuse(e.to_string()))?;
        let mut builder = match self.provider {
            Provider::Cpu => builder,
            Provider::Cuda => builder
                .with_execution_providers([ort::ep::CUDA::default().build().error_on_failure()])
                .map_err(|e| refuse(e.to_string()))?,
            Provider::Tensorrt => builder
                .with_execution_providers([
                    ort::ep::TensorRT::default().build().error_on_failure(),
                    ort::ep::CUDA::default().build(),
                ])
                .map_err(|e| refuse(e.to_string()))?,
        };
        builder
            .commit_from_memory(onnx)
            .map_err(|e| refuse(e.to_string()))
    }
}
