//! The analyzer's end: what a program says that connects as an analyzer. For Weir's own analyzer, the simulator and
//! tests.

use std::fmt;

use super::{compact, native, typed, ControlWord, Sink};

/// What an analyzer that connects may speak: the flag `--dialect`, of the distributor and of the analyzer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Of the reference document.
    Typed,
    /// Of the reference clients.
    Compact,
    /// Weir's own.
    Native,
}

impl Dialect {
    /// All of them, in the order of the setting.
    pub const ALL: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

    /// Lower-case name: flag value.
    pub fn as_str(self) -> &'static str {
        Sink::from(self).as_str()
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Dialect> for Sink {
    fn from(dialect: Dialect) -> Sink {
        match dialect {
            Dialect::Typed => Sink::Typed,
            Dialect::Compact => Sink::Compact,
            Dialect::Native => Sink::Native,
        }
    }
}

impl Sink {
    /// What an analyzer of this sink speaks, if it is the analyzer that connects.
    pub fn dialect(self) -> Option<Dialect> {
        let mut all = Dialect::ALL.into_iter();
        all.find(|dialect| Sink::from(*dialect) == self)
    }
}

/// The first word of a reference dialect; a native link starts with a HELLO instead.
pub fn encode_first_weight(dialect: Dialect, weight: f64) -> ControlWord {
    assert!(
        dialect != Dialect::Native,
        "a native link starts with HELLO"
    );
    match dialect {
        Dialect::Compact => compact::encode_weight(weight),
        _ => typed::encode_first_weight(weight),
    }
}

/// ACK of everything up to message `sequence` of the link, wrapped as the dialect wraps it.
pub fn encode_ack(dialect: Dialect, sequence: u64) -> ControlWord {
    match dialect {
        Dialect::Typed => typed::encode_ack(sequence),
        Dialect::Compact => compact::encode_ack(sequence),
        Dialect::Native => native::encode_ack(sequence),
    }
}

/// A change of weight.
pub fn encode_weight(dialect: Dialect, weight: f64) -> ControlWord {
    match dialect {
        Dialect::Typed => typed::encode_weight(weight),
        Dialect::Compact => compact::encode_weight(weight),
        Dialect::Native => native::encode_weight(weight),
    }
}

/// Send nothing new (native; the reference dialects say weight 0).
pub fn encode_drain(dialect: Dialect) -> ControlWord {
    match dialect {
        Dialect::Native => native::encode_drain(),
        _ => encode_weight(dialect, 0.0),
    }
}

/// Everything up to `sequence` is done and this analyzer closes (native only).
pub fn encode_goodbye(sequence: u64) -> ControlWord {
    native::encode_goodbye(sequence)
}
