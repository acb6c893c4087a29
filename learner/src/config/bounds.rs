//! What numbers of a configuration can be. Only what would end in a panic, in a division by zero or in a training
//! that silently does nothing is refused: whether a number is a good one is the user's to say.

use super::LearnerConfig;
use crate::generative::config::GenerativeConfig;

/// A number that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OutOfBounds {
    /// Too small, or no number.
    #[error("{key} = {value}: it is at least {least}")]
    Below {
        /// Which key.
        key: String,
        /// Its value.
        value: f64,
        /// The smallest it can be.
        least: f64,
    },
    /// Too large.
    #[error("{key} = {value}: it is at most {most}")]
    Above {
        /// Which key.
        key: String,
        /// Its value.
        value: f64,
        /// The largest it can be.
        most: f64,
    },
    /// Half of it would be no whole number.
    #[error("{key} = {value}: it is even")]
    Odd {
        /// Which key.
        key: String,
        /// Its value.
        value: i64,
    },
}

fn between(key: &str, value: f64, least: f64, most: f64) -> Result<(), OutOfBounds> {
    let key = || key.to_owned();
    if value.is_nan() || value < least {
        return Err(OutOfBounds::Below {
            key: key(),
            value,
            least,
        });
    }
    if value > most {
        return Err(OutOfBounds::Above {
            key: key(),
            value,
            most,
        });
    }
    Ok(())
}

fn counts(all: &[(&str, i64)]) -> Result<(), OutOfBounds> {
    (all.iter()).try_for_each(|&(key, count)| between(key, count as f64, 1.0, f64::INFINITY))
}

fn shares(all: &[(&str, f64)]) -> Result<(), OutOfBounds> {
    (all.iter()).try_for_each(|&(key, share)| between(key, share, 0.0, 1.0))
}

fn no_less_than_zero(all: &[(&str, f64)]) -> Result<(), OutOfBounds> {
    (all.iter()).try_for_each(|&(key, value)| between(key, value, 0.0, f64::INFINITY))
}

/// What a `Duration` can hold, with room to spare.
fn seconds(all: &[(&str, f64)]) -> Result<(), OutOfBounds> {
    (all.iter()).try_for_each(|&(key, value)| between(key, value, 0.0, 1e15))
}

fn widths(all: &[(&str, &[i64])]) -> Result<(), OutOfBounds> {
    (all.iter()).try_for_each(|(key, widths)| {
        (widths.iter()).try_for_each(|&width| counts(&[(*key, width)]))
    })
}

/// How many target critics are asked, of how many.
fn asked(key: &str, asked: i64, critics: i64) -> Result<(), OutOfBounds> {
    between(key, asked as f64, 1.0, critics as f64)
}

/// The first number of a configuration that cannot be.
pub(super) fn check(config: &LearnerConfig) -> Result<(), OutOfBounds> {
    let c = config;
    counts(&[
        ("train.batch", c.train.batch as i64),
        ("train.cta_ratio", c.train.cta_ratio as i64),
        ("train.capacity", c.train.capacity as i64),
        ("train.threads", c.train.threads.map_or(1, i64::from)),
        ("offline.batch", c.offline.batch as i64),
        ("offline.epoch_updates", c.offline.epoch_updates as i64),
        ("offline.eval_freq", c.offline.eval_freq as i64),
        ("offline.num_eval", c.offline.num_eval as i64),
        ("offline.log_freq", c.offline.log_freq as i64),
        ("online.num_eval", c.online.num_eval as i64),
        ("online.updates_per_step", c.online.updates_per_step as i64),
        ("td3_bc.policy_freq", c.td3_bc.policy_freq as i64),
        (
            "iql.actor_updates",
            c.iql.actor_updates.map_or(1, |updates| updates as i64),
        ),
        ("cql.sampled_actions", c.cql.sampled_actions),
        (
            "cql.target_update_period",
            c.cql.target_update_period as i64,
        ),
        ("cal_ql.cql.sampled_actions", c.cal_ql.cql.sampled_actions),
        (
            "cal_ql.cql.target_update_period",
            c.cal_ql.cql.target_update_period as i64,
        ),
        ("redq.critics", c.redq.critics),
        ("redq.update_to_data", c.redq.update_to_data),
        ("redq.policy_delay", c.redq.policy_delay),
        ("rlpd.critics", c.rlpd.critics),
        ("front.spatial_features", c.front.spatial_features),
        ("front.bottleneck", c.front.bottleneck),
        ("front.proprio_latent", c.front.proprio_latent),
        ("imitation.batch", c.imitation.batch),
        ("reward.batch", c.reward.batch),
        ("encoder.image_size", c.encoder.image_size),
        ("rlpd.update_to_data", c.rlpd.update_to_data),
    ])?;
    generative(&c.generative_replay)?;
    // Something must be left to learn from.
    between("offline.held_out", c.offline.held_out, 0.0, 0.9)?;
    asked("redq.asked", c.redq.asked, c.redq.critics)?;
    asked("rlpd.asked", c.rlpd.asked.unwrap_or(1), c.rlpd.critics)?;
    shares(&[
        ("train.demonstration_share", c.train.demonstration_share),
        ("reward.held_out", c.reward.held_out),
        ("td3_bc.discount", c.td3_bc.discount),
        ("iql.discount", c.iql.discount),
        ("awac.discount", c.awac.discount),
        ("cql.discount", c.cql.discount),
        ("cal_ql.cql.discount", c.cal_ql.cql.discount),
        ("sac.discount", c.sac.discount),
        ("redq.discount", c.redq.discount),
        ("rlpd.discount", c.rlpd.discount),
        ("sac_grasp.discount", c.sac_grasp.discount),
    ])?;
    if c.offline.sparse_rewards {
        // Such an episode is worth its reward over 1 − γ.
        between("cal_ql.cql.discount", c.cal_ql.cql.discount, 0.0, 0.999_999)?;
    }
    seconds(&[
        ("train.snapshot_period_s", c.train.snapshot_period_s),
        ("train.checkpoint_period_s", c.train.checkpoint_period_s),
    ])?;
    no_less_than_zero(&[
        ("train.steps_per_update", c.train.steps_per_update),
        ("bc.lr", c.bc.lr),
        ("td3_bc.lr_actor", c.td3_bc.lr_actor),
        ("td3_bc.lr_critic", c.td3_bc.lr_critic),
        ("iql.lr_actor", c.iql.lr_actor),
        ("iql.lr_q", c.iql.lr_q),
        ("iql.lr_v", c.iql.lr_v),
        ("cql.policy_lr", c.cql.policy_lr),
        ("cql.critic_lr", c.cql.critic_lr),
        ("cal_ql.cql.policy_lr", c.cal_ql.cql.policy_lr),
        ("cal_ql.cql.critic_lr", c.cal_ql.cql.critic_lr),
        ("rlpd.actor_lr", c.rlpd.actor_lr),
        ("rlpd.critic_lr", c.rlpd.critic_lr),
        ("front.lr", c.front.lr),
        ("awac.lr", c.awac.lr),
        ("sac.lr", c.sac.lr),
        ("redq.lr", c.redq.lr),
        ("sac_grasp.lr", c.sac_grasp.lr),
    ])?;
    widths(&[
        ("bc.hidden", &c.bc.hidden),
        ("td3_bc.hidden", &c.td3_bc.hidden),
        ("iql.hidden", &c.iql.hidden),
        ("awac.hidden", &c.awac.hidden),
        ("cql.actor_hidden", &c.cql.actor_hidden),
        ("cql.critic_hidden", &c.cql.critic_hidden),
        ("cal_ql.cql.actor_hidden", &c.cal_ql.cql.actor_hidden),
        ("cal_ql.cql.critic_hidden", &c.cal_ql.cql.critic_hidden),
        ("sac.hidden", &c.sac.hidden),
        ("redq.hidden", &c.redq.hidden),
        ("rlpd.hidden", &c.rlpd.hidden),
    ])
}

fn generative(config: &GenerativeConfig) -> Result<(), OutOfBounds> {
    let GenerativeConfig {
        diffusion: d,
        check,
        ..
    } = config;
    let (denoiser, sampler) = (&d.denoiser, &d.sampler);
    let of = |name: &str| format!("generative_replay.{name}");
    let at_least = |least: f64, all: &[(&str, f64)]| {
        (all.iter()).try_for_each(|&(name, value)| between(&of(name), value, least, f64::INFINITY))
    };
    at_least(
        1.0,
        &[
            (
                "retrain_diffusion_every",
                config.retrain_diffusion_every as f64,
            ),
            ("num_samples", config.num_samples as f64),
            ("threads", f64::from(config.threads)),
            ("diffusion.batch", d.batch as f64),
            ("diffusion.updates", d.updates as f64),
            ("diffusion.denoiser.width", denoiser.width as f64),
            ("diffusion.denoiser.depth", denoiser.depth as f64),
            ("diffusion.ema.every", d.ema.every as f64),
            ("diffusion.sampler.steps", sampler.steps as f64),
            ("curiosity.hidden", config.curiosity.hidden as f64),
            ("check.real_rows", check.real_rows as f64),
            ("check.generated_rows", check.generated_rows as f64),
            ("projection.dimensions", config.projection.dimensions as f64),
            ("projection.fit_rows", config.projection.fit_rows as f64),
        ],
    )?;
    for (name, value, least) in [
        ("diffusion.denoiser.time_fourier", denoiser.time_fourier, 2),
        ("diffusion.denoiser.embedding", denoiser.embedding, 4),
    ] {
        between(&of(name), value as f64, f64::from(least), f64::INFINITY)?;
        // Sines and cosines come in pairs.
        if value % 2 != 0 {
            return Err(OutOfBounds::Odd {
                key: of(name),
                value,
            });
        }
    }
    at_least(
        0.0,
        &[
            ("diffusion.lr", d.lr),
            ("diffusion.sampler.eta", sampler.eta),
            ("diffusion.sampler.churn", sampler.churn),
            ("diffusion.sampler.cfg_scale", sampler.guidance),
            ("curiosity.lr", config.curiosity.lr),
        ],
    )?;
    at_least(
        f64::MIN_POSITIVE,
        &[
            ("diffusion.clip_norm", d.clip_norm),
            ("diffusion.edm.sigma_min", d.edm.sigma_min),
            ("diffusion.edm.sigma_data", d.edm.sigma_data),
            ("diffusion.edm.rho", d.edm.rho),
        ],
    )?;
    between(
        &of("diffusion.edm.sigma_max"),
        d.edm.sigma_max,
        d.edm.sigma_min,
        f64::INFINITY,
    )?;
    [
        ("cond_top_frac", config.cond_top_frac),
        ("diffusion_sample_ratio", config.diffusion_sample_ratio),
        ("diffusion.condition_dropout", d.condition_dropout),
        ("diffusion.betas", d.betas[0]),
        ("diffusion.betas", d.betas[1]),
    ]
    .into_iter()
    .try_for_each(|(name, share)| between(&of(name), share, 0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(set: &str) -> String {
        let resolved = LearnerConfig::resolve("iql", None, &[set.to_owned()]);
        resolved.unwrap_err().to_string()
    }

    #[test]
    fn nothing_is_done_zero_at_a_time() {
        for key in [
            "train.batch",
            "train.threads",
            "offline.eval_freq",
            "online.num_eval",
            "td3_bc.policy_freq",
            "iql.actor_updates",
            "cql.sampled_actions",
            "redq.update_to_data",
            "rlpd.critics",
        ] {
            let wanted = format!("{key} = 0: it is at least 1");
            assert_eq!(said(&format!("{key}=0")), wanted);
        }
        assert_eq!(
            said("sac.hidden=[256, 0]"),
            "sac.hidden = 0: it is at least 1"
        );
    }

    #[test]
    fn what_would_panic_later_is_named_at_once() {
        assert_eq!(
            said("train.demonstration_share=1.5"),
            "train.demonstration_share = 1.5: it is at most 1"
        );
        assert_eq!(said("redq.critics=1"), "redq.asked = 2: it is at most 1");
        assert_eq!(
            said("train.checkpoint_period_s=-1.0"),
            "train.checkpoint_period_s = -1: it is at least 0"
        );
        assert_eq!(
            said("train.snapshot_period_s=inf"),
            "train.snapshot_period_s = inf: it is at most 1000000000000000"
        );
        assert_eq!(
            said("iql.discount=1.5"),
            "iql.discount = 1.5: it is at most 1"
        );
        assert_eq!(said("sac.lr=nan"), "sac.lr = NaN: it is at least 0");
        assert_eq!(
            said("generative_replay.diffusion.sampler.eta=-1.0"),
            "generative_replay.diffusion.sampler.eta = -1: it is at least 0"
        );
    }
}
