//! Elements: what is routed as one message.

use weir_protocol::frame::{encode_header, FRAME_HEADER_BYTES};
use weir_protocol::Form;

/// Bytes that are no message, or not all of one: why they are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The rest of a line that was longer than a message may be; what came before was delivered.
    LineCut,
    /// A value that has no shape of a message: a record that is no map, a time that is none.
    WrongShape,
    /// A mark that Fluent Bit puts around entries; it is no message.
    GroupMark,
    /// Metrics or traces.
    NotLogs,
    /// A client that did not know the key of its port, or no name and password.
    KeyRefused,
}

/// One message, borrowed from received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A whole frame of raw bytes: goes into lanes as it lies.
    Frame(&'a [u8]),
    /// A whole frame that its sender has sent before, to this distributor or another. It goes as a message that was
    /// redelivered, under the identity that its sender gives it.
    Resent {
        /// Header and payload.
        frame: &'a [u8],
        /// The sender's stream of numbers.
        session: u64,
        /// Its number there.
        sequence: u64,
    },
    /// An entry of Fluent Forward, which the engine renders, see [`crate::render`].
    Entry {
        /// 0 fatal to 5 trace.
        severity: u8,
        /// Under which it came.
        tag: &'a [u8],
        /// Its time and its record as MessagePack, one behind the other: without the head of their array.
        entry: &'a [u8],
    },
    /// Anything else: gets a frame's header on its way into a lane.
    Payload {
        /// 0 fatal to 5 trace.
        severity: u8,
        /// What the bytes are.
        form: Form,
        /// The message, without its framing; short enough to be a frame, see [`crate::Limits`].
        bytes: &'a [u8],
    },
}

impl<'a> Element<'a> {
    /// Its frame, in two parts: a header, which a frame has in its bytes already, and bytes.
    #[inline(always)]
    pub fn parts(&self) -> (Header, &'a [u8]) {
        match *self {
            Element::Frame(frame) | Element::Resent { frame, .. } => (Header::NONE, frame),
            Element::Entry { entry, .. } => {
                debug_assert!(false, "it is rendered before");
                (Header::NONE, entry)
            }
            Element::Payload {
                severity, bytes, ..
            } => {
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX - FRAME_HEADER_BYTES);
                (Header(Some(encode_header(len, severity))), bytes)
            }
        }
    }

    /// What its bytes are.
    #[inline(always)]
    pub fn form(&self) -> Form {
        match self {
            Element::Frame(_) | Element::Resent { .. } => Form::Raw,
            Element::Entry { .. } => Form::Json,
            Element::Payload { form, .. } => *form,
        }
    }
}

/// The header that is to be written before an element's bytes, if any.
#[derive(Clone, Copy, Debug)]
pub struct Header(Option<[u8; FRAME_HEADER_BYTES as usize]>);

impl Header {
    const NONE: Header = Header(None);

    /// Its bytes; none where the frame has its own.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Some(bytes) => bytes,
            None => &[],
        }
    }
}
