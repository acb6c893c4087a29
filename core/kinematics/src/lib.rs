//! hilt-kinematics
