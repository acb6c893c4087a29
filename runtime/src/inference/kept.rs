//! The graphs and weights that a run acted with, kept in its folder: `hilt verify` runs them again on
//! the logged frames.
//!
//! Weights are as large as they are many, so only the newest of each graph are kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hilt_protocol::{Graph, GraphName, ModelSnapshot, RigSpec, wire};

use super::brain::PolicyFiles;

/// The folder, in the run's.
pub const WEIGHTS_DIR: &str = "weights";

/// So many snapshots of a graph are kept.
const NEWEST: usize = 32;

/// Where a run keeps them.
#[derive(Clone, Debug)]
pub struct Kept {
    dir: PathBuf,
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |e| io::Error::new(e.kind(), format!("{path}: {e}"))
}

impl Kept {
    /// Those of the run in `run_dir`, which may have none.
    pub fn of_run(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join(WEIGHTS_DIR),
        }
    }

    /// Beside its place, then renamed into it.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.join(name);
        let beside = path.with_extension("partial");
        fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(&beside, bytes))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(named(&path))
    }

    /// Keeps a graph.
    pub fn keep_graph(&self, graph: &Graph) -> io::Result<()> {
        self.write(&format!("{}.onnx", graph.name.name()), &graph.onnx)
    }

    /// The encoder and the policy; an error of kind `NotFound` where the run kept none.
    pub fn graphs(&self, spec: &RigSpec) -> io::Result<PolicyFiles> {
        PolicyFiles::read(&self.dir, spec)
    }

    /// Keeps a snapshot, in its wire form, and forgets the oldest of its graph beyond the newest 32.
    pub fn keep_snapshot(&self, graph: GraphName, version: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(&file_name(graph, version), bytes)?;
        let versions = self.versions(graph)?;
        let old = versions.iter().rev().skip(NEWEST);
        for &version in old {
            let path = self.dir.join(file_name(graph, version));
            fs::remove_file(&path).map_err(named(&path))?;
        }
        Ok(())
    }

    /// Versions of the graph's snapshots that are kept, ascending.
    pub fn versions(&self, graph: GraphName) -> io::Result<Vec<u64>> {
        let mut versions = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(named(&self.dir))? {
            let name = entry?.file_name();
            let name = name
                .to_str()
                .and_then(|name| name.strip_suffix(".snapshot"));
            let version = name
                .and_then(|name| name.strip_prefix(graph.name()))
                .and_then(|name| name.strip_prefix('-'))
                .and_then(|version| version.parse::<u64>().ok());
            versions.extend(version);
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// A snapshot; `None`: it is not kept any more, or never was.
    pub fn snapshot(&self, graph: GraphName, version: u64) -> io::Result<Option<ModelSnapshot>> {
        let path = self.dir.join(file_name(graph, version));
        match fs::read(&path) {
            Ok(bytes) => wire::decode_snapshot(&bytes)
                .map(Some)
                .map_err(|e| named(&path)(io::Error::other(e))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(named(&path)(e)),
        }
    }
}

fn file_name(graph: GraphName, version: u64) -> String {
    format!("{}-{version:012}.snapshot", graph.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_of_each_graph() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::of_run(dir.path());
        for version in 1..=40 {
            let graph = GraphName::Policy;
            kept.keep_snapshot(graph, version, &[0; 10]).unwrap();
        }
        kept.keep_snapshot(GraphName::Classifier, 7, &[1]).unwrap();
        let versions = kept.versions(GraphName::Policy).unwrap();
        assert_eq!(versions, (9..=40).collect::<Vec<_>>());
        assert_eq!(kept.versions(GraphName::Classifier).unwrap(), [7]);
        assert_eq!(kept.snapshot(GraphName::Policy, 3).unwrap(), None);
        let error = kept
            .snapshot(GraphName::Policy, 40)
            .unwrap_err()
            .to_string();
        assert!(error.contains("policy-000000000040.snapshot"), "{error}");
        let files = fs::read_dir(dir.path().join(WEIGHTS_DIR)).unwrap();
        assert_eq!(files.count(), 33, "nothing half-written is left");
    }
}
