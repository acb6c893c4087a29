//! What the tests of cameras share.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, reason = "no test uses all of it")]

pub mod opencv;
pub mod render;
