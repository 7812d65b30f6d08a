//! Plays the engine for one connection: carries what is not whole, unpacks, and answers each unit once its elements
//! are through, in the order of their connection.

#![allow(dead_code)] // each test uses a part

use std::collections::VecDeque;
use std::sync::Arc;

use weir_inflate::inflate;
use weir_source::{Answered, Elements, Facts, Limits, Port, Protocols, Source, SourceError, Step};

/// What a sender may be told here.
pub const FACTS: Facts = Facts {
    instance: 7,
    connection: 1,
    units_max: 256,
    unit_bytes_max: 1 << 21,
};

/// One connection.
pub struct Play<S> {
    /// What it speaks.
    pub source: S,
    limits: Limits,
    /// Severity and payload of each message, in order.
    pub messages: Vec<(u8, Vec<u8>)>,
    /// What the sender was told.
    pub told: Vec<u8>,
    /// Why it is closed.
    pub error: Option<SourceError>,
    /// The session is over.
    pub is_ended: bool,
    /// Analyzers ACK nothing for the time being.
    pub is_held: bool,
    carried: Vec<u8>,
    /// What came out of a packed part, until the source has nothing to say at its end.
    unpacked: Option<Vec<u8>>,
    /// Key of each open unit, and elements that are to come; of one that ends by a word, none.
    units: VecDeque<(u64, Option<u32>)>,
}

impl<S: Source> Play<S> {
    /// A connection whose messages may have so many bytes as frames.
    pub fn new(frame_bytes_max: u32) -> Play<S> {
        Play {
            source: S::start(&Arc::new(Port::new(Protocols::default()))),
            limits: Limits { frame_bytes_max },
            messages: Vec::new(),
            told: Vec::new(),
            error: None,
            is_ended: false,
            is_held: false,
            carried: Vec::new(),
            unpacked: None,
            units: VecDeque::new(),
        }
    }

    /// Bytes arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.carried.extend_from_slice(bytes);
        while !self.is_ended && self.error.is_none() {
            if !self.step() {
                break;
            }
        }
        self.answer();
    }

    /// Analyzers ACK all that they have.
    pub fn release(&mut self) {
        self.is_held = false;
        self.answer();
    }

    /// Units that are not answered.
    pub fn open(&self) -> usize {
        self.units.len()
    }

    /// False: more bytes must come.
    fn step(&mut self) -> bool {
        if let Some(bytes) = self.unpacked.take() {
            match self.take(&bytes, true) {
                Some(used) => self.unpacked = Some(bytes[used..].to_vec()),
                None => assert!(self.error.is_some() || bytes.is_empty(), "packed wrong"),
            }
            return true;
        }
        let bytes = std::mem::take(&mut self.carried);
        let used = match bytes.is_empty() {
            true => None,
            false => self.take(&bytes, false),
        };
        self.carried = bytes[used.unwrap_or(0)..].to_vec();
        used.is_some()
    }

    fn take(&mut self, bytes: &[u8], is_inside: bool) -> Option<usize> {
        let mut unpacked = None;
        let used = match self.source.next(bytes, self.limits) {
            Err(error) => {
                self.error = Some(error);
                return None;
            }
            Ok(Step::NeedMore { bytes: more }) => {
                assert!(more > bytes.len(), "{more} of {}", bytes.len());
                return None;
            }
            Ok(Step::Unit { used, unit }) => {
                let elements = match unit.elements {
                    Elements::Exactly(elements) => Some(elements),
                    Elements::UntilEnd => None,
                };
                self.units.push_back((unit.key, elements));
                used
            }
            Ok(Step::Element { used, element }) => {
                let (header, payload) = element.parts();
                let severity = header.bytes().last().copied().expect("a header");
                self.messages.push((severity, payload.to_vec()));
                let (_, left) = self.units.back_mut().expect("a unit");
                *left.as_mut().expect("a number of elements") -= 1;
                used
            }
            Ok(Step::Unpack {
                used,
                packed,
                coding,
                bytes_max,
            }) => {
                assert!(!is_inside, "nested");
                match inflate(coding, packed, bytes_max) {
                    Ok(bytes) => unpacked = Some(bytes),
                    Err(error) => {
                        self.error = Some(SourceError::Packed { error });
                        return None;
                    }
                }
                used
            }
            Ok(Step::End { used }) => {
                self.is_ended = true;
                used
            }
            Ok(step) => panic!("{step:?}"),
        };
        match unpacked {
            None => self.source.taken(),
            Some(bytes) => {
                self.source.unpacked(bytes.len());
                self.unpacked = Some(bytes);
            }
        }
        Some(used)
    }

    fn answer(&mut self) {
        if self.is_held {
            return;
        }
        while let Some((key, Some(0))) = self.units.front().copied() {
            self.units.pop_front();
            let is_newest = !matches!(self.units.front(), Some((_, Some(0))));
            let unit = Answered {
                key,
                is_refused: false,
                is_newest,
            };
            self.source.answer(unit, &FACTS, &mut self.told);
        }
    }
}
