//! What an analyzer says: how much came, and where it is written down.

use super::{Heading, Run};
use serde::{Deserialize, Serialize};

/// Run report of an analyzer. The messages themselves are in its journals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analyzer {
    /// Schema.
    #[serde(rename = "certificate")]
    pub heading: Heading,
    /// When.
    pub run: Run,
    /// Analyzer id.
    pub id: String,
    /// `native`, `typed`, `compact` or `http`. Only native links tell possible duplicates.
    pub dialect: String,
    /// Weight at the end; null over HTTP, where only the distributor has it.
    pub weight: Option<f64>,
    /// This run.
    pub received: Received,
    /// All runs of this id whose journals are in this directory, this one included.
    pub journaled: Journaled,
    /// The journals of all these runs.
    pub journals: Vec<JournalFile>,
}

/// What one run received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Received {
    /// Messages processed, duplicates included.
    pub messages: u64,
    /// Their bytes, frame headers included.
    pub bytes: u64,
    /// Of the messages: flagged as possible duplicates.
    pub redelivered: u64,
    /// Of the messages: without a number, so counted and not journaled.
    pub unnumbered: u64,
    /// Messages below the last of their stream, not flagged and not seen before.
    pub order_violations: u64,
    /// Links that ended and were opened again.
    pub reconnects: u64,
}

/// What the journals say together. A message that came more than twice the same way counts as twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journaled {
    /// Different messages.
    pub messages: u64,
    /// Of those: received more than once.
    pub twice: u64,
    /// Of those that came more than once: more than one time without the flag, on native links.
    pub unrecognised: u64,
    /// Times that a message came flagged as a possible duplicate.
    pub flagged: u64,
    /// Messages without a number.
    pub unnumbered: u64,
    /// Streams.
    pub streams: u64,
}

/// One journal, as it was when the run report was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalFile {
    /// Path; a relative one counts from the run report's directory.
    pub file: String,
    /// Names the journal, whatever its path: 32 hexadecimal digits.
    pub uuid: String,
    /// How often it was opened for writing. A larger number in the file: the analyzer ran again.
    pub generation: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole file, hexadecimal.
    pub sha256: String,
}
