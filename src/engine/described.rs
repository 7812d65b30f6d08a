//! Lanes whose analyzers asked what each message is and where it came from. Such a lane never takes the short way of a
//! copy, so that nothing of this is asked for a message of another lane.
//!
//! ```text
//! shard: comes_from(input, peer) -> ingest -> lane of an analyzer that asked: frame with a description
//!                                         `-> any other lane: as ever
//! ```

use core::net::IpAddr;
use std::sync::Arc;

use super::lane::Layout;
use super::shard::{Engine, LaneState};
use super::{LaneId, Memory, Origin};
use weir_protocol::described::{self, About, Kind, ABOUT_HEAD_BYTES};
use weir_protocol::record::{wrap_described, wrap_frame};
use weir_protocol::Form;
use weir_source::{Element, Protocol, Stream};

/// What is said of messages that came by HTTP.
pub(super) const BY_HTTP: About<'static> = About {
    kind: Kind::Json,
    input: "http",
    protocol: "http",
    peer: "",
    tag: b"",
};

/// Where the bytes come from that are taken in now.
#[derive(Default)]
pub(super) struct Whence {
    is_known: bool,
    input: Arc<str>,
    protocol: Option<Protocol>,
    peer: String,
    certificate: Option<Arc<str>>,
    tag: Vec<u8>,
}

impl Whence {
    /// Whom the emitter's certificate names; empty: nobody. Samples have it, descriptions do not.
    pub(super) fn certificate(&self) -> &str {
        let certificate = self.certificate.as_deref().filter(|_| self.is_known);
        certificate.unwrap_or_default()
    }

    fn about(&self, form: Form) -> About<'_> {
        if !self.is_known {
            return About {
                kind: form.into(),
                ..About::default()
            };
        }
        let kind = match (form, self.protocol) {
            (Form::Raw, Some(Protocol::Syslog | Protocol::Relp)) => Kind::Syslog,
            (Form::Raw, Some(Protocol::Lines)) => Kind::Line,
            _ => form.into(),
        };
        About {
            kind,
            input: &self.input,
            protocol: self.protocol.map_or("", Protocol::as_str),
            peer: &self.peer,
            tag: &self.tag,
        }
    }
}

impl<M: Memory> Engine<M> {
    /// Whether anybody looks at what [`Engine::comes_from`] says.
    #[inline]
    pub fn asks_whence(&self) -> bool {
        self.has_described || self.samples.are_wanted()
    }

    /// What the next call takes in came in at this input, from this address, from whom this certificate names. To be said before each call, because a
    /// message that is said to come from elsewhere is worse than one of which nothing is said.
    pub fn comes_from(
        &mut self,
        input: &Arc<str>,
        peer: Option<IpAddr>,
        certificate: Option<&Arc<str>>,
    ) {
        let whence = &mut self.whence;
        whence.is_known = true;
        whence.input = Arc::clone(input);
        whence.protocol = None;
        whence.tag.clear();
        whence.certificate = certificate.map(Arc::clone);
        whence.peer.clear();
        if let Some(peer) = peer {
            whence.peer = peer.to_canonical().to_string();
        }
    }

    #[inline]
    pub(super) fn whence_is_over(&mut self) {
        self.whence.is_known = false;
    }

    #[inline]
    pub(super) fn note_protocol(&mut self, stream: &Stream) {
        if self.whence.is_known {
            self.whence.protocol = stream.protocol();
        }
    }

    /// The same, where it is not a stream that says so.
    pub(super) fn note_spoken(&mut self, protocol: Protocol) {
        self.whence.protocol = Some(protocol);
    }

    /// The next element has this tag.
    #[inline]
    pub(super) fn note_tag(&mut self, tag: &[u8]) {
        if self.whence.is_known {
            self.whence.tag.clear();
            self.whence.tag.extend_from_slice(tag);
        }
    }

    /// What samples say: input, protocol, peer, tag.
    pub(super) fn whence(&self, form: Form) -> About<'_> {
        self.whence.about(form)
    }

    /// Some lane's analyzer asked, or none does any more.
    pub(super) fn find_described(&mut self) {
        let mut lanes = self.lanes.iter();
        self.has_described =
            lanes.any(|slot| slot.state == LaneState::Up && slot.lane.setup().described);
    }

    #[inline]
    pub(super) fn is_described(&self, lane: LaneId) -> bool {
        self.lanes[lane.0 as usize].lane.setup().described
    }

    /// Most bytes that descriptions add to so many messages which came by HTTP.
    pub(super) fn http_description_bytes(&self, messages: u32) -> usize {
        match self.has_described {
            true => BY_HTTP.bytes() * messages as usize,
            false => 0,
        }
    }

    /// Most bytes that a unit of so many messages, which do not say where they came from, gets on this lane.
    pub(super) fn moved_description_bytes(&self, lane: LaneId, messages: u64) -> usize {
        match self.is_described(lane) {
            true => ABOUT_HEAD_BYTES * usize::try_from(messages).unwrap_or(usize::MAX),
            false => 0,
        }
    }

    /// An element for a lane whose analyzer asked.
    #[cold]
    #[inline(never)]
    pub(super) fn append_described(
        &mut self,
        lane: LaneId,
        element: &Element,
        origin: Option<Origin>,
    ) {
        let form = element.form();
        let (header, bytes) = element.parts();
        let (severity, message) = match header.bytes() {
            [.., severity] => (*severity, bytes),
            [] => match bytes {
                [_, _, _, _, severity, message @ ..] => (*severity, message),
                _ => return debug_assert!(false, "a frame has a header"),
            },
        };
        self.sample_parts(lane, severity, message, form);
        let max = self.config.frame_bytes_max;
        let mut frame = std::mem::take(&mut self.scratch);
        let about = self.whence.about(form);
        let is_described = about.write_frame(severity, message, max, &mut frame);
        let to = &mut self.lanes[lane.0 as usize].lane;
        if to.setup().layout == Layout::Records {
            let mut record = Vec::new();
            match is_described {
                true => wrap_described(&frame, &mut record),
                false => wrap_frame(form, &frame, &mut record),
            }
            to.append(&mut self.memory, &mut self.pool, &record, None);
        } else {
            to.append(&mut self.memory, &mut self.pool, &frame, origin);
        }
        self.keep_scratch(frame);
    }

    /// A frame that came by HTTP, for a lane of frames or batches whose analyzer asked.
    #[cold]
    #[inline(never)]
    pub(super) fn append_described_frame(&mut self, lane: LaneId, frame: &[u8]) {
        let [_, _, _, _, severity, message @ ..] = frame else {
            return debug_assert!(false, "a frame has a header");
        };
        let mut out = Vec::new();
        BY_HTTP.write_frame(*severity, message, self.config.frame_bytes_max, &mut out);
        let to = &mut self.lanes[lane.0 as usize].lane;
        to.append(&mut self.memory, &mut self.pool, &out, None);
    }
}

/// A frame of one lane in the way of another: with or without descriptions. `None`: as it is.
pub(super) fn moved(
    frame: &[u8],
    (was_described, is_described): (bool, bool),
    form: &mut Form,
    frame_bytes_max: u32,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match (was_described, is_described) {
        (true, true) | (false, false) => return None,
        (true, false) => {
            let said = described::strip(frame, &mut out);
            if said != Form::Raw {
                *form = said;
            }
        }
        (false, true) => {
            let [_, _, _, _, severity, message @ ..] = frame else {
                return None;
            };
            let about = About {
                kind: (*form).into(),
                ..About::default()
            };
            about.write_frame(*severity, message, frame_bytes_max, &mut out);
        }
    }
    Some(out)
}

/// A frame that may be described as the record of a lane whose analyzer asked, or did not.
pub(super) fn record_of(
    frame: &[u8],
    was_described: bool,
    is_described: bool,
    form: Form,
    out: &mut Vec<u8>,
) {
    match was_described.then(|| described::read(frame)).flatten() {
        Some((Some(_), ..)) if is_described => wrap_described(frame, out),
        Some((Some(_), ..)) => {
            let mut plain = Vec::new();
            let said = described::strip(frame, &mut plain);
            wrap_frame(said, &plain, out);
        }
        _ => wrap_frame(form, frame, out),
    }
}
