//! hilt-sim
