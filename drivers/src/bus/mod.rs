//! Servos on a serial bus.

mod wire;

pub use wire::{Wire, WireError};
