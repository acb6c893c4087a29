//! hilt-runtime
