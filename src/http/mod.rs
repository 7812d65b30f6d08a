//! HTTP/1.1 and JSON packets, pure: no I/O, no clock.
#![forbid(unsafe_code)]

pub mod record;
