//! What a configuration describes, made.

use std::path::PathBuf;

use hilt_protocol::{CameraSpec, RigSpec};
use tch::{Device, Kind};

use super::{Algorithm, LearnerConfig};
use crate::{
    agents::{
        Agent,
        awac::Awac,
        bc::Bc,
        cal_ql::CalQl,
        cql::Cql,
        front::{MapFront, Sighted},
        iql::Iql,
        redq::Redq,
        rlpd::Rlpd,
        sac::Sac,
        sac_grasp::{Alternating, SacGrasp, Shapes},
        td3_bc::Td3Bc,
    },
    encoder::{Encoder, WeightsError},
    export::RobotAgent,
    reward::model::{CameraSize, RewardInput, RewardModel},
};

impl LearnerConfig {
    /// The algorithm with fresh networks, from torch's generator seeded with `seed`, for this many observation
    /// and action columns; `None`: sac-grasp, which is not one on vectors.
    pub fn agent(
        &self,
        observation: i64,
        action: i64,
        device: Device,
        seed: u64,
    ) -> Option<Box<dyn Agent>> {
        tch::manual_seed(seed as i64);
        let (o, a, kind) = (observation, action, Kind::Float);
        let both = (kind, device);
        Some(match self.algorithm {
            Algorithm::SacGrasp => return None,
            Algorithm::Bc => Box::new(Bc::new(self.bc.clone(), o, a, kind, device)),
            Algorithm::Td3Bc => Box::new(Td3Bc::new(self.td3_bc.clone(), o, a, kind, device)),
            Algorithm::Iql => {
                let mut config = self.iql.clone();
                config.actor_updates.get_or_insert(self.offline.updates);
                Box::new(Iql::new(config, o, a, kind, device))
            }
            Algorithm::Awac => Box::new(Awac::new(self.awac.clone(), o, a, kind, device)),
            Algorithm::Cql => Box::new(Cql::new(self.cql.clone(), o, a, both)),
            Algorithm::CalQl => Box::new(CalQl::new(self.cal_ql.clone(), o, a, both)),
            Algorithm::Sac => Box::new(Sac::new(self.sac.clone(), o, a, both)),
            Algorithm::Redq => Box::new(Redq::new(self.redq.clone(), o, a, both)),
            Algorithm::Rlpd => Box::new(Rlpd::new(self.rlpd.clone(), o, a, both)),
        })
    }

    /// The algorithm on what a robot of this spec sees, by an encoder that gives maps \[h, w, C\]; with fresh
    /// networks, from torch's generator seeded with `seed`.
    pub fn sight_agent(
        &self,
        spec: &RigSpec,
        map: [i64; 3],
        device: Device,
        seed: u64,
    ) -> Box<dyn RobotAgent> {
        let shapes = Shapes::of(spec, map);
        let width = self.front.width(shapes.cameras.len());
        match self.agent(width, shapes.action(), device, seed) {
            Some(agent) => {
                let (cameras, proprio) = (&shapes.cameras, shapes.proprio);
                let front = MapFront::new(&self.front, cameras, proprio, Kind::Float, device);
                Box::new(Sighted::new(front, agent))
            }
            None => {
                let config = self.sac_grasp.clone();
                let agent = SacGrasp::new(config, shapes, Kind::Float, device, seed);
                Box::new(Alternating::new(agent, self.train.cta_ratio))
            }
        }
    }

    /// γ of the returns that the algorithm wants beside each transition; `None`: it wants none.
    pub fn return_discount(&self) -> Option<f64> {
        (self.algorithm == Algorithm::CalQl).then_some(self.cal_ql.cql.discount)
    }

    /// γ of the algorithm; behaviour cloning's, which has none, is CORL's usual one.
    pub fn discount(&self) -> f64 {
        match self.algorithm {
            Algorithm::SacGrasp => self.sac_grasp.discount,
            Algorithm::Bc => 0.99,
            Algorithm::Td3Bc => self.td3_bc.discount,
            Algorithm::Iql => self.iql.discount,
            Algorithm::Awac => self.awac.discount,
            Algorithm::Cql => self.cql.discount,
            Algorithm::CalQl => self.cal_ql.cql.discount,
            Algorithm::Sac => self.sac.discount,
            Algorithm::Redq => self.redq.discount,
            Algorithm::Rlpd => self.rlpd.discount,
        }
    }

    /// The encoder of `encoder_weights`, if it is configured.
    pub fn given_encoder(
        &self,
        device: Device,
        seed: u64,
    ) -> Result<Option<Encoder>, WeightsError> {
        let load = |path: &PathBuf| {
            let encoder = Encoder::new(self.encoder.clone(), Kind::Float, device, seed);
            encoder.load(path)?;
            Ok(encoder)
        };
        self.encoder_weights.as_ref().map(load).transpose()
    }

    /// The reward classifier for these cameras, with fresh weights.
    pub fn reward_model(
        &self,
        cameras: &[CameraSpec],
        device: Device,
        seed: u64,
    ) -> Result<RewardModel, CameraSize> {
        let network = self.reward.network.clone();
        match self.reward.input {
            RewardInput::Maps => {
                let map_shape = self.encoder.map_shape();
                Ok(RewardModel::on_maps(
                    network, cameras, map_shape, device, seed,
                ))
            }
            RewardInput::Images => {
                let trunk = self.reward.trunk.clone();
                RewardModel::on_images(network, trunk, cameras, device, seed)
            }
        }
    }
}
