//! Everything that the next update depends on, in a file.

use std::{io, path::Path};

use tch::Tensor;

use super::SacGrasp;
use crate::nn::Adam;

impl SacGrasp {
    /// Saves everything that the next update depends on; beside its place, then renamed.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut tensors = vec![
            ("params".to_owned(), self.params.flat().shallow_clone()),
            ("target".to_owned(), self.target.flat().shallow_clone()),
            ("updates".to_owned(), Tensor::from(self.updates as i64)),
        ];
        for (name, adam) in self.adams() {
            let (m, v) = adam.moments();
            tensors.push((format!("{name}.m"), m));
            tensors.push((format!("{name}.v"), v));
            tensors.push((format!("{name}.steps"), Tensor::from(adam.steps())));
        }
        let beside = path.with_extension("partial");
        Tensor::write_safetensors(&tensors, &beside).map_err(io::Error::other)?;
        std::fs::File::open(&beside)?.sync_all()?;
        std::fs::rename(&beside, path)
    }

    /// Puts back what [`SacGrasp::save`] wrote. A file of another configuration is refused.
    pub fn load(&mut self, path: &Path) -> io::Result<()> {
        let bad = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let tensors = Tensor::read_safetensors(path).map_err(|e| bad(e.to_string()))?;
        let get = |name: &str, size: Option<Vec<i64>>| match tensors.iter().find(|(n, _)| n == name)
        {
            Some((_, t)) if size.as_ref().is_none_or(|s| *s == t.size()) => Ok(t),
            Some((_, t)) => Err(bad(format!(
                "`{name}` has {:?} numbers, this agent {size:?}",
                t.size()
            ))),
            None => Err(bad(format!("`{name}` is missing"))),
        };
        // Everything is looked up before anything is changed.
        let params = get("params", Some(self.params.flat().size()))?;
        let target = get("target", Some(self.target.flat().size()))?;
        let updates = get("updates", None)?.int64_value(&[]);
        let mut states = Vec::new();
        for (name, adam) in self.adams() {
            let size = Some(adam.moments().0.size());
            let (m, v) = (
                get(&format!("{name}.m"), size.clone())?,
                get(&format!("{name}.v"), size)?,
            );
            states.push((m, v, get(&format!("{name}.steps"), None)?.int64_value(&[])));
        }
        self.params.set_flat(params);
        self.target.set_flat(target);
        self.updates = updates as u64;
        let adams = [
            Some(&mut self.critic_adam),
            self.grasp_adam.as_mut(),
            Some(&mut self.actor_adam),
        ];
        let adams = adams
            .into_iter()
            .flatten()
            .chain([&mut self.temperature_adam]);
        adams
            .zip(states)
            .for_each(|(adam, (m, v, steps))| adam.restore(m, v, steps));
        Ok(())
    }

    fn adams(&self) -> Vec<(&'static str, &Adam)> {
        let mut all = vec![("critic_adam", &self.critic_adam)];
        all.extend(self.grasp_adam.as_ref().map(|adam| ("grasp_adam", adam)));
        all.extend([
            ("actor_adam", &self.actor_adam),
            ("temperature_adam", &self.temperature_adam),
        ]);
        all
    }
}
