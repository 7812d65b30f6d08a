//! Samples of what passes: the message that opens a batch or a buffer, or a packet's first. Plain appends
//! behind these are not looked at, so that sampling costs them nothing.

use super::described::BY_HTTP;
use super::shard::Engine;
use super::{LaneId, Memory};
use weir_protocol::described::About;
use weir_protocol::Form;
use weir_source::render;

/// Payload kept of a sample, in bytes.
const PAYLOAD_BYTES_MAX: usize = 1024;

/// A message that was routed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Number of the analyzer that it went to.
    pub analyzer: u32,
    /// As in its frame.
    pub severity: u8,
    /// Bytes of its payload.
    pub bytes: u64,
    /// The first of them, 1 KiB at most.
    pub payload: Vec<u8>,
    /// What it is and where it came from. Of the first ones of a look the second may not be known.
    pub about: SampleAbout,
}

/// What is known of a sample beside its bytes; empty: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleAbout {
    /// raw, json, syslog or line.
    pub form: &'static str,
    /// Input where it came in.
    pub input: String,
    /// What its emitter speaks.
    pub protocol: String,
    /// Address of its emitter.
    pub peer: String,
    /// Whom its certificate names.
    pub certificate: String,
    /// Tag of Fluent Forward, what is no UTF-8 in it replaced.
    pub tag: String,
}

/// Samples that wait, and how many more are wanted.
#[derive(Default)]
pub(super) struct Samples {
    wanted: usize,
    taken: Vec<Sample>,
}

impl<M: Memory> Engine<M> {
    /// The samples since the last call; at most `wanted` more are taken until the next.
    pub fn take_samples(&mut self, wanted: usize) -> Vec<Sample> {
        self.samples.wanted = wanted;
        std::mem::take(&mut self.samples.taken)
    }

    /// An element that is appended now, as a frame.
    #[inline]
    pub(super) fn sample(&mut self, lane: LaneId, frame: &[u8], form: Form) {
        if self.samples.are_wanted() {
            if let [_, _, _, _, severity, message @ ..] = frame {
                self.sample_parts(lane, *severity, message, form);
            }
        }
    }

    /// The same of a message that came by HTTP.
    #[inline]
    pub(super) fn sample_posted(&mut self, lane: LaneId, frame: &[u8]) {
        if self.samples.are_wanted() {
            if let [_, _, _, _, severity, message @ ..] = frame {
                self.take_sample(lane, *severity, message, SampleAbout::of(&BY_HTTP));
            }
        }
    }

    pub(super) fn sample_parts(&mut self, lane: LaneId, severity: u8, message: &[u8], form: Form) {
        if self.samples.are_wanted() {
            let mut about = SampleAbout::of(&self.whence(form));
            about.certificate.push_str(self.whence.certificate());
            self.take_sample(lane, severity, message, about);
        }
    }

    /// The same of an entry, which is shown as JSON.
    #[inline]
    pub(super) fn sample_entry(&mut self, lane: LaneId, severity: u8, tag: &[u8], entry: &[u8]) {
        if self.samples.are_wanted() {
            let mut json = Vec::new();
            render::entry(
                &mut self.render_context,
                tag,
                entry,
                PAYLOAD_BYTES_MAX,
                &mut json,
            );
            self.sample_parts(lane, severity, &json, Form::Json);
        }
    }

    #[cold]
    fn take_sample(&mut self, lane: LaneId, severity: u8, message: &[u8], about: SampleAbout) {
        self.samples.wanted -= 1;
        self.samples.taken.push(Sample {
            analyzer: self.lanes[lane.0 as usize].analyzer,
            severity,
            bytes: message.len() as u64,
            payload: message[..message.len().min(PAYLOAD_BYTES_MAX)].to_vec(),
            about,
        });
    }
}

impl Samples {
    /// Somebody looks, and has not seen enough.
    #[inline]
    pub(super) fn are_wanted(&self) -> bool {
        self.wanted > 0
    }
}

impl SampleAbout {
    fn of(about: &About) -> SampleAbout {
        SampleAbout {
            form: about.kind.as_str(),
            input: about.input.to_owned(),
            protocol: about.protocol.to_owned(),
            peer: about.peer.to_owned(),
            certificate: String::new(),
            tag: String::from_utf8_lossy(about.tag).into_owned(),
        }
    }
}
