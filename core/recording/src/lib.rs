//! hilt-recording
