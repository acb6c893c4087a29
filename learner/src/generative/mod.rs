//! Prioritized generative replay: a diffusion model learns what was experienced and makes more of it, most of what
//! matters most (Wang et al. 2024, arXiv 2410.18082, over SynthER, Lu et al. 2023, arXiv 2303.06614).
//!
//! A generation: every row of the real replay gets a relevance (curiosity, return or temporal-difference error); the
//! diffusion model is trained on the rows, conditioned on it; rows are sampled for relevances out of the highest;
//! what comes out is checked, and if it is good it becomes the synthetic replay, from which a share of each batch
//! is drawn. If it is bad it is left out, with the reason, and learning goes on with real rows.
//!
//! From the ground up:
//! - [`layout`]: a transition as a row of numbers. [`normalizer`]: rows to the range that the model works in, and back.
//! - [`edm`]: Karras' diffusion: what the network sees, what it is to say, how much each noise level counts.
//!   [`denoiser`]: the networks, PGR's and SynthER's. [`diffusion`]: network, optimizer and averaged weights ([`ema`])
//!   together, as whoever generates drives it. [`sampler`]: from noise to rows.
//! - [`curiosity`]: the model whose surprise is one relevance. [`relevance`]: all of them, and the conditions drawn.
//! - [`check`]: whether generated rows can be believed.
//! - [`generation`]: one of them from beginning to end. [`background`]: the thread that it has. [`account`]: what became
//!   of all of them.
//! - [`replay`]: the synthetic replay, as trainings on state vectors drive it. [`sight`]: the same for what a robot sees,
//!   by a [`latent`] projection.
//! - [`command`]: `hilt-learner generate`, a generation to be looked at before anybody trusts one, or what a training
//!   was [`fed`]; [`look`]: rows beside real ones, in numbers; [`page`]: to be seen.
//! - [`config`]: what can be chosen.

pub mod account;
pub mod background;
pub mod check;
pub mod command;
pub mod config;
pub mod curiosity;
pub mod denoiser;
pub mod diffusion;
pub mod edm;
pub mod ema;
pub mod fed;
pub mod generation;
pub mod latent;
pub mod layout;
pub mod look;
pub mod normalizer;
pub mod page;
pub mod relevance;
pub mod replay;
pub mod robot;
pub mod sampler;
pub mod sight;
