//! The emitter and analyzer programs.
