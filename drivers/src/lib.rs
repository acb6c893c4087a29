//! hilt-drivers
