//! hilt-tests
