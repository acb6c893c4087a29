//! Everything that the next update depends on.

use tch::Tensor;

use super::SacGrasp;
use crate::{agents::net::part, nn::Adam};

impl SacGrasp {
    /// As [`crate::agents::Agent::state`].
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![
            ("params".to_owned(), self.params.flat().copy()),
            ("target".to_owned(), self.target.flat().copy()),
        ];
        for (name, adam) in self.adams() {
            let (m, v) = adam.moments();
            state.push((format!("{name}.m"), m));
            state.push((format!("{name}.v"), v));
            state.push((format!("{name}.steps"), Tensor::from(adam.steps())));
        }
        state
    }

    /// As [`crate::agents::Agent::restore`].
    pub fn restore(&mut self, state: &[(String, Tensor)], updates: u64) {
        self.params.set_flat(part(state, "params"));
        self.target.set_flat(part(state, "target"));
        self.updates = updates;
        for (name, adam) in self.adams_mut() {
            let get = |what: &str| part(state, &format!("{name}.{what}"));
            adam.restore(get("m"), get("v"), get("steps").int64_value(&[]));
        }
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

    fn adams_mut(&mut self) -> Vec<(&'static str, &mut Adam)> {
        let mut all = vec![("critic_adam", &mut self.critic_adam)];
        all.extend(self.grasp_adam.as_mut().map(|adam| ("grasp_adam", adam)));
        all.extend([
            ("actor_adam", &mut self.actor_adam),
            ("temperature_adam", &mut self.temperature_adam),
        ]);
        all
    }
}
