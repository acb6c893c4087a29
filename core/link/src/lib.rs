//! hilt-link
