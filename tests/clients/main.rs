//! The client programs against a distributor made of plain blocking sockets.

mod analyzer;
mod binary;
mod emitter;
mod fake;
