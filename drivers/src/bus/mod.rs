//! Servos on a serial bus.

pub mod feetech;
mod wire;

pub use wire::{Wire, WireError};
