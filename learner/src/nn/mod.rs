//! What every algorithm stands on: named parameters in one flat buffer, layers as pure functions
//! of them, perceptrons and ensembles of them and the products they spend their time with, spatial embeddings by hand, Adam over slices of that buffer, and the threads for these.

pub mod activation;
pub mod adam;
pub mod layers;
pub mod mlp;
pub mod params;
pub mod product;
pub mod spatial;
pub mod team;

pub use adam::{Adam, AdamConfig};
pub use mlp::Mlp;
pub use params::{Init, ParamSpec, Params};
