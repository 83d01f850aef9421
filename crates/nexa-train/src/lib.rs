//! Objectives, optimizer, schedule, training loop and checkpoints.
