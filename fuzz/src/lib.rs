//! Fuzz targets: what each does with one input. `docs/FUZZING.md` says what each checks.
//!
//! ```text
//!   fuzz_targets/*.rs  libFuzzer's inputs        -.
//!   tests/fuzz.rs      corpus and its mutations  -+-> TARGETS -> run(bytes), panics on a finding
//! ```
//!
//! An input is a few bytes of settings and then, for decoders, the stream as it would be on the wire,
//! so that a corpus file can be read with a hex dump. Every target reads its input through
//! [`input::Input`]; missing bytes are zeros, so that every input means something.

pub mod arguments;
pub mod config;
pub mod control;
pub mod detect;
pub mod dns;
pub mod engine;
pub mod frames;
pub mod http;
pub mod input;
pub mod link;
pub mod native;
pub mod outlets;
pub mod proxy;
pub mod requests;
pub mod sources;
pub mod tls;
pub mod tree;
pub mod values;
pub mod vectors;

/// One target: its name, and what it does with an input. A finding is a panic.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each has a file in `fuzz_targets` and a folder in `corpus`.
pub const TARGETS: [Target; 27] = [
    ("frames", frames::run),
    ("sources", sources::run),
    ("control", control::run),
    ("native", native::run),
    ("detect", detect::run),
    ("values", values::run),
    ("arguments", arguments::run),
    ("tree", tree::run),
    ("link", link::run),
    ("engine", engine::run),
    ("config", config::run),
    ("http", http::run),
    ("proxy", proxy::run),
    ("dns", dns::run),
    ("syslog", sources::syslog),
    ("lines", sources::lines),
    ("ndjson", sources::ndjson),
    ("gelf", sources::gelf),
    ("forward", sources::forward),
    ("lumberjack", sources::lumberjack),
    ("relp", sources::relp),
    ("hear_forward", outlets::forward),
    ("hear_lumberjack", outlets::lumberjack),
    ("hear_relp", outlets::relp),
    ("hear_lines", outlets::lines),
    ("requests", requests::run),
    ("tls", tls::run),
];
