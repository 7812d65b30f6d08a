//! Forms: what the bytes of a payload are.

/// What the bytes of a payload are. Said once for a run of messages, beside their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the emitter gave them.
    #[default]
    Raw,
    /// One message as a JSON object, as a packet has it.
    Json,
    /// An entry of Fluent Forward as it came, behind its tag: see [`crate::record::split_entry`]. Only in lanes of records;
    /// everywhere else it is rendered.
    Entry,
}
