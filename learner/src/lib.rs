//! hilt-learner
