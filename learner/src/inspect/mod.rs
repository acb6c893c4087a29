//! `hilt-learner inspect`: what is in data, and what is wrong with it.
//!
//! - [`gather`]: one pass over it, with a memory that does not grow with its steps, by the running figures of
//!   [`statistics`]; [`film`]: the few frames and curves that are kept to be looked at.
//! - [`figures`]: what comes of it. [`findings`]: what of that a person should know first.
//! - [`summary`]: for a terminal; [`page`]: to be looked at; [`command`]: both, or JSON for programs.

pub mod command;
pub mod figures;
pub mod film;
pub mod findings;
pub mod gather;
pub mod page;
pub mod statistics;
pub mod summary;
