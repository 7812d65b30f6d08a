//! Takes messages: counts, checks, records.

use super::streams::{Standing, Streams};
use crate::payload;
use crate::shapes::SeverityCounts;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;
use weir_ledger::journal::{Arrival, Journal};
use weir_protocol::described;
use weir_protocol::frame::FRAME_HEADER_BYTES;
use weir_protocol::native::NativeError;

/// Bytes of a record: stream hash and number.
pub const RECORD_BYTES: usize = 16;

/// What was counted. Links add theirs up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages processed, duplicates included.
    pub messages: u64,
    /// Their frames' bytes.
    pub bytes: u64,
    /// Messages below the last of their stream, not redelivered and not seen before.
    pub order_violations: u64,
    /// Messages seen before on the same link or its predecessor, within the last 16,384 of their
    /// stream.
    pub duplicates: u64,
    /// Messages in batches marked as redelivered.
    pub redelivered: u64,
    /// Messages without a number: counted, not checked or recorded.
    pub unnumbered: u64,
    /// Numbered messages that could not be checked: too far back, or too many streams.
    pub unchecked: u64,
    /// Payloads with a checksum that is right.
    pub sound: u64,
    /// Payloads with a checksum that is wrong.
    pub corrupt: u64,
    /// How many of each severity.
    pub severities: SeverityCounts,
    /// How many of each form, where that was asked for: raw, JSON, syslog, lines.
    pub forms: [u64; 4],
    /// First and last moment at which messages were processed.
    pub span: Option<(Instant, Instant)>,
}

impl Counts {
    /// Adds another link's counts.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.order_violations += other.order_violations;
        self.duplicates += other.duplicates;
        self.redelivered += other.redelivered;
        self.unnumbered += other.unnumbered;
        self.unchecked += other.unchecked;
        self.sound += other.sound;
        self.corrupt += other.corrupt;
        self.severities.add(&other.severities);
        for (sum, more) in self.forms.iter_mut().zip(other.forms) {
            *sum += more;
        }
        self.span = match (self.span, other.span) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
}

/// Counts and memory of one shard's link; it outlives reconnects.
pub struct Tally {
    /// So far.
    pub counts: Counts,
    streams: Streams,
    /// When the newest message was due, until somebody asks.
    due_unix_ns: Option<u64>,
    record: Option<Record>,
    journal: Option<Journal>,
}

struct Record {
    file: File,
    /// Not yet written.
    bytes: Vec<u8>,
}

impl Tally {
    /// Appends to `record` and writes `journal`, if there are any.
    pub fn new(record: Option<&Path>, journal: Option<Journal>) -> io::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.map_err(|e| io::Error::new(e.kind(), format!("record file {path:?}: {e}")))
        };
        let record = record.map(open).transpose()?.map(|file| Record {
            file,
            bytes: Vec::new(),
        });
        Ok(Self {
            counts: Counts::default(),
            streams: Streams::default(),
            due_unix_ns: None,
            record,
            journal,
        })
    }

    /// Takes one message.
    #[inline]
    pub fn take(&mut self, frame: &[u8], redelivered: bool) {
        self.counts.bytes += frame.len() as u64;
        self.take_payload(frame[4], &frame[FRAME_HEADER_BYTES as usize..], redelivered);
    }

    /// Takes one message of a link that asked what messages are.
    ///
    /// # Errors
    /// It says that it is described, and is not.
    pub fn take_described(&mut self, frame: &[u8], redelivered: bool) -> Result<(), NativeError> {
        let (about, severity, message) = described::read(frame).ok_or(NativeError::Description)?;
        self.counts.bytes += frame.len() as u64;
        self.counts.forms[about.unwrap_or_default().kind as usize] += 1;
        self.take_payload(severity, message, redelivered);
        Ok(())
    }

    /// Takes a message without a frame; its bytes are for the caller to count.
    #[inline]
    pub fn take_payload(&mut self, severity: u8, payload: &[u8], redelivered: bool) {
        self.counts.messages += 1;
        self.counts.severities.note(severity);
        self.counts.redelivered += u64::from(redelivered);
        let Some(numbered) = payload::parse(payload) else {
            self.counts.unnumbered += 1;
            if let Some(journal) = &mut self.journal {
                journal.note_unnumbered();
            }
            return;
        };
        if numbered.has_checksum {
            self.verify(severity, payload);
        }
        self.due_unix_ns = Some(numbered.due_unix_ns);
        let hash = payload::stream_hash(numbered.stream);
        match self
            .streams
            .note(hash, numbered.sequence, numbered.due_unix_ns)
        {
            Standing::Next => {}
            Standing::Back => self.counts.order_violations += u64::from(!redelivered),
            Standing::Duplicate => self.counts.duplicates += 1,
            Standing::Old | Standing::Unchecked => self.counts.unchecked += 1,
        }
        if let Some(journal) = &mut self.journal {
            let arrival = if redelivered {
                Arrival::Flagged
            } else {
                Arrival::Plain
            };
            journal.note(numbered.stream, numbered.sequence, arrival);
        }
        if let Some(record) = &mut self.record {
            record.bytes.extend_from_slice(&hash.to_be_bytes());
            record
                .bytes
                .extend_from_slice(&numbered.sequence.to_be_bytes());
        }
    }

    /// Takes a message of a stream that promises no order. Its bytes are for the caller to count.
    pub fn take_unordered(&mut self, severity: u8, payload: &[u8]) {
        let order_violations = self.counts.order_violations;
        self.take_payload(severity, payload, false);
        self.counts.order_violations = order_violations;
    }

    #[cold]
    fn verify(&mut self, severity: u8, payload: &[u8]) {
        if payload::is_sound(severity, payload) {
            self.counts.sound += 1;
            return;
        }
        if self.counts.corrupt == 0 {
            let start = &payload[..payload.len().min(40)];
            log::error!(
                "payload \"{}...\": its checksum is wrong; further ones are counted only",
                start.escape_ascii()
            );
        }
        self.counts.corrupt += 1;
    }

    /// Hands every record so far to the kernel: from then on they survive the death of this process.
    /// To be called before the ACK that covers them.
    pub fn write_records(&mut self) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.flush()?;
        }
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        if !record.bytes.is_empty() {
            record.file.write_all(&record.bytes)?;
            record.bytes.clear();
        }
        Ok(())
    }

    /// How late the newest message was at `now_unix_ns`, in nanoseconds; `None` if there is no new one.
    pub fn delay_ns(&mut self, now_unix_ns: impl FnOnce() -> u64) -> Option<u64> {
        let due_unix_ns = self.due_unix_ns.take()?;
        Some(now_unix_ns().saturating_sub(due_unix_ns))
    }

    /// Work was done at `now`.
    pub fn worked_at(&mut self, now: Instant) {
        let first = self.counts.span.map_or(now, |(first, _)| first);
        self.counts.span = Some((first, now));
    }
}
