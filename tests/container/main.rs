//! In a container: limits of control groups, seccomp profiles, lockable memory, and what the doctor says there. With
//! real control groups, filters and limits where this may be done; what cannot be done here says so and is skipped.

mod citizen;
mod group;
