//! Which sink is this analyzer, if it is one? Decided from its first bytes.
//!
//! ```text
//!   first byte has its top bit set ------------------------------> native (HELLO follows)
//!   another protocol is recognized, text, zeros -----------------> refused by its name
//!   4 bytes, then 50 ms of silence ------------------------------> compact
//!   8 bytes: f64 in 2^-20..=2^20, or all zero -------------------> typed
//!            else, and both halves are weights near each other --> compact, 4 bytes left over
//!   5 to 7 bytes: the rest of a word is on its way, so wait; ----> compact at the deadline
//!   a weight that is not plausible ------------------------------> refused, with both readings
//! ```
//!
//! Both reference dialects write whole words, so 5 to 7 bytes are a word that the network cut:
//! silence says nothing about it, and guessing would misread a typed weight for ever. Eight zero
//! bytes are typed: one write of a client with weight 0 is likely, two compact zeros within 50 ms
//! are not. Eight bytes that are zero or printable may be the start of something longer: they wait
//! for 50 ms of silence, or for a ninth byte that goes on otherwise.

use std::fmt;

use weir_protocol::foreign::{self, Foreign};
use weir_protocol::{frame, take, valid_weight, Partial, WeightText};

use super::{Dialect, Sink};

/// How long the peer must be quiet after 4 bytes before they count as a compact weight.
pub const SILENCE_MS: u64 = 50;
/// How long after its first byte a peer may take to be recognised.
pub const DETECT_MS_MAX: u64 = 1_000;

const COMPACT_BYTES: usize = 4;
const TYPED_BYTES: usize = 8;
/// Least first weight of a reference dialect, beside 0. Weights count in proportion only: the range is 2^40 wide.
pub const WEIGHT_MIN: f64 = 1.0 / 1_048_576.0;
/// Greatest first weight of a reference dialect.
pub const WEIGHT_MAX: f64 = 1_048_576.0;
/// Two compact weights within 50 ms of each other differ at most by this factor; else they are one
/// typed weight out of range.
const STEP_MAX: f64 = 16.0;
/// Longest frame that an implausible first word is explained by.
const FRAME_HINT_MAX: u32 = 16 << 20;

/// A first word that opens no link: the connection is closed and the reason logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DetectError {
    /// NaN, infinite or negative.
    FirstWeight {
        /// How the word was read.
        sink: Sink,
        /// Its value.
        weight: f64,
    },
    /// Another protocol.
    Foreign(Foreign),
    /// A number, but no weight that somebody states.
    Implausible {
        /// The first bytes.
        first: [u8; TYPED_BYTES],
        /// How many of them had arrived.
        bytes: usize,
    },
    /// The deadline came before a whole first word.
    Incomplete {
        /// What had arrived.
        bytes: usize,
    },
}

impl DetectError {
    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::FirstWeight { .. } | Self::Implausible { .. } => "first_weight_invalid",
            Self::Foreign(_) => "foreign_protocol",
            Self::Incomplete { .. } => "first_word_incomplete",
        }
    }

    /// The first bytes are those of an emitter's message.
    pub fn is_of_emitter(&self) -> bool {
        let Self::Implausible { first, bytes } = self else {
            return false;
        };
        let first = &first[..(*bytes).min(TYPED_BYTES)];
        matches!(frame::peek(first, FRAME_HINT_MAX), Ok(Some(_)))
    }
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstWeight { sink, weight } => {
                write!(
                    f,
                    "first weight {} ({sink}) is not a finite number >= 0",
                    WeightText(*weight)
                )
            }
            Self::Foreign(foreign) => write!(f, "{}", foreign.sentence()),
            Self::Implausible { first, bytes } => {
                implausible(f, &first[..(*bytes).min(TYPED_BYTES)])
            }
            Self::Incomplete { bytes } => {
                write!(
                    f,
                    "only {bytes} bytes of a first weight within {DETECT_MS_MAX} ms"
                )
            }
        }
    }
}

impl std::error::Error for DetectError {}

/// Says what the bytes would be, and what is allowed.
fn implausible(f: &mut fmt::Formatter<'_>, first: &[u8]) -> fmt::Result {
    write!(f, "first bytes")?;
    for byte in first {
        write!(f, " {byte:02x}")?;
    }
    write!(f, " are no first weight (allowed: 0, or 2^-20 to 2^20)")?;
    if let Some(word) = first.first_chunk() {
        write!(f, ": as compact {:e}", f32::from_be_bytes(*word))?;
    }
    if let Some(word) = first.first_chunk() {
        write!(f, ", as typed {:e}", f64::from_be_bytes(*word))?;
    }
    match frame::peek(first, FRAME_HINT_MAX) {
        Ok(Some(length)) => write!(
            f,
            "; a message of {length} bytes? Emitters have a port of their own (--emitters)"
        ),
        _ => Ok(()),
    }
}

/// Whether a stream that starts so, and ends so for now, is an analyzer of a reference dialect.
pub fn is_first_weight(first: &[u8]) -> bool {
    let found = Detector::new(None).feed(&mut &*first);
    let is_weight = first.len() == COMPACT_BYTES && compact_weight(first).is_some_and(is_plausible);
    matches!(
        found,
        Ok(Detection::Analyzer {
            weight: Some(_),
            ..
        })
    ) || (found == Ok(Detection::NeedMore) && is_weight)
}

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detection {
    /// Not enough: read on. Arm the silence timer if [`Detector::awaits_silence`].
    NeedMore,
    /// An analyzer.
    Analyzer {
        /// What it speaks.
        sink: Sink,
        /// Its first word: valid, and its control words start with [`Detector::replay`]. `None`: it says its
        /// weight in a HELLO, which starts at the first byte of this very call's bytes.
        weight: Option<f64>,
    },
}

/// Reads the first word of one connection. When it has answered anything but `NeedMore`, it is
/// spent: feed [`Detector::replay`], then the rest of the bytes, to a control decoder.
#[derive(Clone, Debug)]
pub struct Detector {
    pinned: Option<Dialect>,
    first: Partial<TYPED_BYTES>,
}

impl Detector {
    /// `pinned` takes the guess away, for clients that break its assumptions.
    pub fn new(pinned: Option<Dialect>) -> Self {
        Self {
            pinned,
            first: Partial::new(),
        }
    }

    /// Takes what it needs off `bytes`.
    pub fn feed(&mut self, bytes: &mut &[u8]) -> Result<Detection, DetectError> {
        if bytes.is_empty() {
            return Ok(Detection::NeedMore);
        }
        if self.is_native(bytes) {
            return Ok(Detection::Analyzer {
                sink: Sink::Native,
                weight: None,
            });
        }
        if self.first.filled().len() < COMPACT_BYTES {
            if !self.first.fill(bytes, COMPACT_BYTES) {
                return Ok(Detection::NeedMore);
            }
            self.refuse_foreign(bytes)?;
        }
        if self.pinned == Some(Dialect::Compact) {
            return self.compact();
        }
        if self.first.filled().len() < TYPED_BYTES {
            if !self.first.fill(bytes, TYPED_BYTES) {
                return Ok(Detection::NeedMore);
            }
            self.refuse_foreign(bytes)?;
        }
        self.whole_word(bytes)
    }

    /// Eight bytes are here, and perhaps `more`.
    fn whole_word(&self, more: &[u8]) -> Result<Detection, DetectError> {
        if self.may_go_on() {
            match more.first() {
                None => return Ok(Detection::NeedMore),
                Some(0) if self.first_bytes() == [0; TYPED_BYTES] => return Err(self.foreign(more)),
                Some(byte) if foreign::is_text(&[*byte]) => return Err(self.foreign(more)),
                Some(_) => {}
            }
        }
        self.decided()
    }

    /// Eight bytes are all there is, or all that counts.
    fn decided(&self) -> Result<Detection, DetectError> {
        let is_typed = self.pinned.is_some() || is_plausible(self.f64());
        if is_typed {
            return self.typed();
        }
        if foreign::is_text(self.first.filled()) {
            return Err(DetectError::Foreign(Foreign::Text));
        }
        match self.compact() {
            Ok(_) if !self.has_near_second() => Err(self.implausible()),
            found => found,
        }
    }

    /// True while 50 ms without a byte would decide. Restart the timer with every byte.
    pub fn awaits_silence(&self) -> bool {
        match self.first.filled().len() {
            COMPACT_BYTES => self.pinned.is_none(),
            filled => filled == TYPED_BYTES && self.may_go_on(),
        }
    }

    /// No byte came for [`SILENCE_MS`].
    pub fn on_silence(&mut self) -> Result<Detection, DetectError> {
        match self.first.filled().len() {
            _ if !self.awaits_silence() => Ok(Detection::NeedMore),
            TYPED_BYTES => self.decided(),
            _ => self.compact(),
        }
    }

    /// [`DETECT_MS_MAX`] have passed since connect or first byte: decide with what is there.
    pub fn on_deadline(&mut self) -> Result<Detection, DetectError> {
        match self.first.filled().len() {
            TYPED_BYTES => self.decided(),
            COMPACT_BYTES if self.pinned.is_none() => self.compact(),
            bytes @ COMPACT_BYTES.. if self.pinned.is_none() => {
                if foreign::is_text(&self.first.filled()[..bytes]) {
                    return Err(DetectError::Foreign(Foreign::Text));
                }
                self.compact()
            }
            bytes => match foreign::recognize(self.first.filled()) {
                Some(found) => Err(DetectError::Foreign(found)),
                None => Err(DetectError::Incomplete { bytes }),
            },
        }
    }

    /// Bytes taken that are not part of a weight of this sink: the first of the control data.
    pub fn replay(&self, sink: Sink) -> &[u8] {
        match sink {
            Sink::Compact => &self.first.filled()[COMPACT_BYTES.min(self.first.filled().len())..],
            _ => &[],
        }
    }

    fn is_native(&self, bytes: &[u8]) -> bool {
        match self.pinned {
            Some(pinned) => pinned == Dialect::Native,
            None => self.first.filled().is_empty() && bytes[0] & 0x80 != 0,
        }
    }

    /// Zeros and text are words that may be no whole first word at all.
    fn may_go_on(&self) -> bool {
        self.first_bytes() == [0; TYPED_BYTES] || foreign::is_text(self.first.filled())
    }

    /// Refuses what begins like another protocol; `more` only helps to name it. Zeros may be a weight.
    fn refuse_foreign(&self, more: &[u8]) -> Result<(), DetectError> {
        match foreign::recognize(self.first.filled()) {
            None | Some(Foreign::Zeros) => Ok(()),
            Some(_) => Err(self.foreign(more)),
        }
    }

    /// Names it by all that has arrived.
    fn foreign(&self, more: &[u8]) -> DetectError {
        let held = self.first.filled();
        let mut seen = [0; foreign::LOOK_BYTES];
        let more = &more[..more.len().min(seen.len() - held.len())];
        seen[..held.len()].copy_from_slice(held);
        seen[held.len()..][..more.len()].copy_from_slice(more);
        let named = foreign::recognize(&seen[..held.len() + more.len()]);
        let named = named.or_else(|| foreign::recognize(held));
        DetectError::Foreign(named.unwrap_or(Foreign::Text))
    }

    fn implausible(&self) -> DetectError {
        DetectError::Implausible {
            first: self.first_bytes(),
            bytes: self.first.filled().len(),
        }
    }

    /// What has arrived, and zeros.
    fn first_bytes(&self) -> [u8; TYPED_BYTES] {
        let held = self.first.filled();
        let mut first = [0; TYPED_BYTES];
        first[..held.len()].copy_from_slice(held);
        first
    }

    fn f64(&self) -> f64 {
        f64::from_be_bytes(self.first_bytes())
    }

    fn typed(&self) -> Result<Detection, DetectError> {
        self.reference(Sink::Typed, self.f64())
    }

    fn compact(&self) -> Result<Detection, DetectError> {
        let mut held = self.first.filled();
        let word = take(&mut held).map_or(0, u32::from_be_bytes);
        let weight = f32::from_bits(word);
        // -0.0 is the word "ACK 0": valid as a number, but no weight in this dialect.
        let is_ack = weight == 0.0 && word != 0;
        self.reference(Sink::Compact, if is_ack { -1.0 } else { weight.into() })
    }

    /// The second of two compact words is a weight near the first, or ACKs nothing.
    fn has_near_second(&self) -> bool {
        let held = self.first.filled();
        let second = held.get(COMPACT_BYTES..).and_then(compact_weight);
        match (compact_weight(held), second) {
            (Some(first), Some(second)) => {
                let step = (second / first).max(first / second);
                is_plausible(second) && second > 0.0 && (first == 0.0 || step <= STEP_MAX)
            }
            _ => held.ends_with(&[0x80, 0, 0, 0]),
        }
    }

    fn reference(&self, sink: Sink, weight: f64) -> Result<Detection, DetectError> {
        match valid_weight(weight) {
            Some(weight) if is_plausible(weight) => {
                let weight = Some(weight);
                Ok(Detection::Analyzer { sink, weight })
            }
            Some(_) => Err(self.implausible()),
            None => Err(DetectError::FirstWeight { sink, weight }),
        }
    }
}

/// A first weight that a reference dialect may state: 0, or [`WEIGHT_MIN`] to [`WEIGHT_MAX`].
pub fn is_plausible(weight: f64) -> bool {
    weight == 0.0 || (WEIGHT_MIN..=WEIGHT_MAX).contains(&weight)
}

/// The compact weight that `bytes` start with; `None` for an ACK.
fn compact_weight(mut bytes: &[u8]) -> Option<f64> {
    let word = u32::from_be_bytes(take(&mut bytes)?);
    (word >> 31 == 0).then(|| f32::from_bits(word).into())
}

#[cfg(test)]
mod tests {
    use super::super::encode_first_weight;
    use super::*;

    fn auto() -> Detector {
        Detector::new(None)
    }

    fn feed(detector: &mut Detector, mut bytes: &[u8]) -> Result<Detection, DetectError> {
        detector.feed(&mut bytes)
    }

    fn reference(dialect: Dialect, weight: f64) -> Result<Detection, DetectError> {
        let (sink, weight) = (dialect.into(), Some(weight));
        Ok(Detection::Analyzer { sink, weight })
    }

    fn greets() -> Result<Detection, DetectError> {
        let (sink, weight) = (Sink::Native, None);
        Ok(Detection::Analyzer { sink, weight })
    }

    #[test]
    fn four_bytes_and_silence_are_compact() {
        let mut detector = auto();
        assert_eq!(
            feed(&mut detector, &0.25f32.to_be_bytes()),
            Ok(Detection::NeedMore)
        );
        assert!(detector.awaits_silence());
        assert_eq!(detector.on_silence(), reference(Dialect::Compact, 0.25));
        assert_eq!(detector.replay(Sink::Compact), [0u8; 0]);
    }

    #[test]
    fn typed_weights_over_the_whole_range() {
        for weight in [0.4, 1.0, 0.0, WEIGHT_MIN, WEIGHT_MAX] {
            let mut bytes: &[u8] = &[&f64::to_be_bytes(weight)[..], &[1, 0]].concat();
            assert_eq!(auto().feed(&mut bytes), reference(Dialect::Typed, weight));
            assert_eq!(bytes, [1, 0], "control data stays with the caller");
        }
    }

    #[test]
    fn one_byte_at_a_time() {
        let mut detector = auto();
        let bytes = encode_first_weight(Dialect::Typed, 0.4);
        for (at, byte) in bytes.as_bytes().iter().enumerate() {
            let detection = feed(&mut detector, &[*byte]);
            assert_eq!(detector.awaits_silence(), at == 3);
            if at < 7 {
                assert_eq!(detection, Ok(Detection::NeedMore));
            } else {
                assert_eq!(detection, reference(Dialect::Typed, 0.4));
            }
        }
    }

    #[test]
    fn compact_weight_with_control_data_at_once() {
        let mut detector = auto();
        let bytes = [
            0.05f32.to_be_bytes(),
            0.06f32.to_be_bytes(),
            [0x80, 0, 0, 1],
        ]
        .concat();
        let mut rest: &[u8] = &bytes;
        let weight = f64::from(0.05f32);
        assert_eq!(
            detector.feed(&mut rest),
            reference(Dialect::Compact, weight)
        );
        assert_eq!(detector.replay(Sink::Compact), 0.06f32.to_be_bytes());
        assert_eq!(rest, [0x80, 0, 0, 1]);
    }

    #[test]
    fn five_to_seven_bytes_wait_for_their_word() {
        for (dialect, bytes) in [
            (Dialect::Typed, 0.4f64.to_be_bytes().to_vec()),
            (
                Dialect::Compact,
                [0.1f32.to_be_bytes(), 0.2f32.to_be_bytes()].concat(),
            ),
        ] {
            for cut in 5..8 {
                let mut detector = auto();
                assert_eq!(feed(&mut detector, &bytes[..cut]), Ok(Detection::NeedMore));
                assert_eq!(detector.on_silence(), Ok(Detection::NeedMore));
                let detection = feed(&mut detector, &bytes[cut..]);
                assert!(
                    matches!(detection, Ok(Detection::Analyzer { sink, weight: Some(_) }) if sink == dialect.into())
                );
            }
        }
    }

    #[test]
    fn the_deadline_decides_for_compact() {
        let mut detector = auto();
        let _ = feed(&mut detector, &[0x3E, 0xCC, 0xCC, 0xCD, 0x3F]);
        assert_eq!(
            detector.on_deadline(),
            reference(Dialect::Compact, 0.4f32.into())
        );
        assert_eq!(detector.replay(Sink::Compact), [0x3F]);
        let mut detector = auto();
        let _ = feed(&mut detector, &[0x3E, 0xCC]);
        assert_eq!(detector.on_silence(), Ok(Detection::NeedMore));
        assert_eq!(
            detector.on_deadline(),
            Err(DetectError::Incomplete { bytes: 2 })
        );
    }

    #[test]
    fn native_leaves_every_byte() {
        let mut bytes: &[u8] = &[0xD7, 0x45];
        assert_eq!(auto().feed(&mut bytes), greets());
        assert_eq!(bytes.len(), 2);
        let mut bytes: &[u8] = &[0x3E];
        let mut pinned = Detector::new(Some(Dialect::Native));
        assert_eq!(pinned.feed(&mut bytes), greets());
        assert_eq!(bytes.len(), 1);
    }

    #[test]
    fn invalid_first_weights_are_named() {
        for (bytes, name) in [
            (f64::NAN.to_be_bytes(), "NaN"),
            (f64::INFINITY.to_be_bytes(), "NaN"), // 7FF00000 read as f32
            ([0x7F, 0x80, 0, 0, 0x3F, 0, 0, 0], "inf"),
        ] {
            let error = feed(&mut auto(), &bytes).expect_err("invalid");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_pinned_dialect_does_not_guess() {
        let pinned = |dialect| Detector::new(Some(dialect));
        let compact = pinned(Dialect::Compact).feed(&mut &0.4f64.to_be_bytes()[..]);
        let as_f32 = f32::from_bits(0x3FD9_9999);
        assert_eq!(compact, reference(Dialect::Compact, as_f32.into()));
        let typed = pinned(Dialect::Typed).feed(&mut &1e-6f64.to_be_bytes()[..]);
        assert_eq!(typed, reference(Dialect::Typed, 1e-6));
        for bytes in [1e-30f64.to_be_bytes(), *b"GET / HT"] {
            assert!(pinned(Dialect::Typed).feed(&mut &bytes[..]).is_err());
        }
        for bytes in [1e-30f32.to_be_bytes(), *b"GET "] {
            assert!(pinned(Dialect::Compact).feed(&mut &bytes[..]).is_err());
        }
        for weight in [-1.0, f64::NEG_INFINITY, f64::NAN] {
            assert!(pinned(Dialect::Typed)
                .feed(&mut &weight.to_be_bytes()[..])
                .is_err());
        }
        assert!(pinned(Dialect::Compact)
            .feed(&mut &[0x80, 0, 0, 0][..])
            .is_err());
        assert!(!pinned(Dialect::Typed).awaits_silence());
    }

    /// In one read, and a byte at a time until the pause.
    fn both_ways(bytes: &[u8]) -> [Result<Detection, DetectError>; 2] {
        let mut whole = auto();
        let at_once = feed(&mut whole, bytes);
        let at_once = match at_once {
            Ok(Detection::NeedMore) => whole.on_silence(),
            found => found,
        };
        let mut detector = auto();
        for byte in bytes {
            match feed(&mut detector, &[*byte]) {
                Ok(Detection::NeedMore) => {}
                found => return [at_once, found],
            }
        }
        [at_once, detector.on_silence()]
    }

    #[test]
    fn other_protocols_are_refused_by_name() {
        let sent: [(&[u8], Foreign); 10] = [
            (b"GET /health HTTP/1.1\r\nHost: w\r\n\r\n", Foreign::Http),
            (b"HEAD / HTTP/1.0\r\n\r\n", Foreign::Http),
            (
                b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 8081\r\n",
                Foreign::Proxy,
            ),
            (b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03", Foreign::Tls),
            (b"EHLO x\r\n", Foreign::Smtp),
            (b"AMQP\0\0\x09\x01", Foreign::Amqp),
            (b"<34>Oct 11 22:14:15 h su: x\n", Foreign::Syslog),
            (b"\r\n\r\n", Foreign::EmptyLines),
            (&[0; 16], Foreign::Zeros),
            (b"stats\r\n", Foreign::Memcached),
        ];
        for (bytes, name) in sent {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let [at_once, slowly] = both_ways(bytes);
            assert_eq!(at_once, Err(DetectError::Foreign(name)), "{text:?}");
            assert!(slowly.is_err(), "{text:?}");
        }
        // Text whose first eight bytes are a typed weight.
        for found in both_ways(b"?question=of a client that is none\n") {
            assert!(matches!(found, Err(DetectError::Foreign(_))), "{found:?}");
        }
    }

    #[test]
    fn weights_that_look_like_text_are_weights() {
        for weight in [0.7_f32, 0.65, 0.81, 0.21] {
            let bytes = weight.to_be_bytes();
            let expected = reference(Dialect::Compact, f64::from(weight));
            assert_eq!(both_ways(&bytes), [expected; 2], "{weight}");
        }
        for weight in [19.2, 11.2] {
            let expected = reference(Dialect::Typed, weight);
            assert_eq!(both_ways(&weight.to_be_bytes()), [expected; 2], "{weight}");
        }
        let goes_on = [&19.2f64.to_be_bytes()[..], &[1, 0x3F, 0x80, 0, 0]].concat();
        let mut rest = &goes_on[..];
        assert_eq!(auto().feed(&mut rest), reference(Dialect::Typed, 19.2));
        assert_eq!(rest.len(), 5);
    }

    #[test]
    fn a_typed_weight_out_of_range_is_not_read_as_compact() {
        for weight in [1e7, 1e-7, 1.0 / 3.0e10, 5e30, 2_097_152.0] {
            for found in both_ways(&f64::to_be_bytes(weight)) {
                assert!(
                    matches!(found, Err(DetectError::Implausible { .. })),
                    "{weight} {found:?}"
                );
            }
        }
        let found = feed(&mut auto(), &1e7f64.to_be_bytes()).expect_err("out of range");
        let text = found.to_string();
        assert!(
            text.contains("2^-20 to 2^20") && text.contains("1e7"),
            "{text}"
        );
    }

    #[test]
    fn an_emitters_frame_is_explained() {
        let found = feed(&mut auto(), &[0, 0, 1, 5, 1, b'h', b'i', b'!']).expect_err("a frame");
        assert!(
            found.to_string().contains("message of 261 bytes"),
            "{found}"
        );
    }

    #[test]
    fn what_is_a_first_weight_is_known_elsewhere_too() {
        assert!(is_first_weight(&0.4f64.to_be_bytes()) && is_first_weight(&0.4f32.to_be_bytes()));
        assert!(!is_first_weight(b"GET ") && !is_first_weight(&[0, 0, 1, 5]));
        assert!(!is_first_weight(&[0x3E]) && !is_first_weight(&[]));
    }
}
