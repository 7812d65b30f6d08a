//! What an outer value comes to: it is read once, and then gone through step by step.

use super::*;

/// What an outer value comes to.
#[derive(Debug)]
pub enum Plan {
    /// A message without a chunk.
    Alone {
        used: usize,
        severity: u8,
        tag: Range<usize>,
        pair: Range<usize>,
    },
    /// It was checked to its end, and has so many messages.
    Entries {
        head: usize,
        bytes: usize,
        region: Region,
        messages: u32,
        chunk: Option<ChunkId>,
    },
    /// It is read while it comes.
    Stream { head: usize, region: Region },
    Unpack {
        used: usize,
        packed: Range<usize>,
        coding: Coding,
        chunk: Option<ChunkId>,
    },
    /// Nothing of it is a message.
    Skip {
        used: usize,
        why: Oddity,
        chunk: Option<ChunkId>,
    },
    Ping {
        used: usize,
        /// Steps of it that were taken: the answer, and for one that is refused that it is counted.
        taken: u8,
    },
}

impl Connection {
    pub fn plan_of(&mut self, whole: &[u8]) -> Result<Plan, ForwardError> {
        let used = whole.len();
        if let Handshake::Ping(greeting) = self.handshake {
            let secrets = self.port.forward.as_ref();
            let verdict = secrets.and_then(|secrets| auth::check(whole, &greeting, secrets));
            let verdict = verdict.ok_or(ForwardError::NoPing)?;
            self.handshake = Handshake::Pong(greeting, verdict);
            return Ok(Plan::Ping { used, taken: 0 });
        }
        let outer = Outer::read(whole)?;
        let chunk = outer.options.chunk.map(ChunkId::from);
        self.name = outer.options.chunk.map(|chunk| name_of(chunk, whole));
        let skip = |why, chunk| Ok(Plan::Skip { used, why, chunk });
        if outer.options.is_not_logs {
            return skip(Oddity::NotLogs, chunk);
        }
        let (entries, left, messages) = match outer.body {
            Body::Other => return skip(Oddity::WrongShape, chunk),
            Body::Group => return skip(Oddity::GroupMark, chunk),
            Body::Compressed(coding, packed) => {
                self.keep_tag(outer.tag);
                return Ok(Plan::Unpack {
                    used,
                    packed,
                    coding,
                    chunk,
                });
            }
            Body::Message(pair, severity) if chunk.is_none() => {
                let tag = range_of(outer.tag, whole);
                let severity = if self.port.finds_level {
                    severity
                } else {
                    INFO
                };
                return Ok(Plan::Alone {
                    used,
                    severity,
                    tag,
                    pair,
                });
            }
            Body::Message(pair, _) => (pair, Left::Bare(true), 1),
            Body::Entries(entries, values) => {
                let bytes = whole.get(values.clone()).unwrap_or_default();
                (
                    values,
                    Left::Entries(entries),
                    self.marks.check(bytes, self.port.finds_level)?,
                )
            }
            Body::Packed(packed) => {
                let bytes = whole.get(packed.clone()).unwrap_or_default();
                let left = Left::Bytes(bytes.len() as u64);
                (
                    packed,
                    left,
                    self.marks.check(bytes, self.port.finds_level)?,
                )
            }
        };
        self.keep_tag(outer.tag);
        let tail = Tail::Read(used - entries.end);
        Ok(Plan::Entries {
            head: entries.start,
            bytes: used,
            region: Region {
                left,
                tail,
                is_held: true,
            },
            messages,
            chunk,
        })
    }

    /// Of a value that is not held until it is whole. `None`: more of it is needed to say.
    pub fn plan_of_stream(
        &mut self,
        bytes: &[u8],
        needs: u64,
        max: usize,
    ) -> Result<Option<Plan>, SourceError> {
        let too_large = SourceError::UnitTooLong { bytes: needs, max };
        let mut rest = bytes;
        let values = match take_head(&mut rest) {
            Some(Head::Array(values @ 2..=3)) if self.is_known() => values,
            None => return Ok(None),
            Some(_) => return Err(too_large),
        };
        let tag = match take_head(&mut rest) {
            Some(Head::Str(bytes) | Head::Bin(bytes)) => bytes as usize,
            None => return Ok(None),
            Some(_) => return Err(too_large),
        };
        if tag > TAG_BYTES_MAX {
            return Err(SourceError::from(ForwardError::Tag { bytes: tag }));
        }
        let Some((tag, after)) = rest.split_at_checked(tag) else {
            return Ok(None);
        };
        rest = after;
        let left = match take_head(&mut rest) {
            Some(Head::Array(entries)) => Left::Entries(entries),
            Some(Head::Str(body) | Head::Bin(body)) => {
                if rest.len() < MAGIC_BYTES.min(body as usize) {
                    return Ok(None);
                }
                if coding_of(rest).is_some() {
                    return Err(too_large);
                }
                Left::Bytes(u64::from(body))
            }
            None => return Ok(None),
            Some(_) => return Err(too_large),
        };
        self.keep_tag(tag);
        let tail = match values {
            2 => Tail::Read(0),
            _ => Tail::Options,
        };
        Ok(Some(Plan::Stream {
            head: bytes.len() - rest.len(),
            region: Region {
                left,
                tail,
                is_held: false,
            },
        }))
    }

    fn keep_tag(&mut self, tag: &[u8]) {
        self.tag.clear();
        self.tag.extend_from_slice(tag);
    }

    pub fn next_of_plan<'a>(&'a mut self, bytes: &'a [u8]) -> Stepped<'a> {
        let is_inside = matches!(
            &self.plan,
            Some(Plan::Entries {
                head: 0,
                chunk: None,
                ..
            })
        );
        if is_inside && !self.is_in_unit {
            // There is nothing to be done before its first entry.
            self.plan_taken();
            return self.next_entry(bytes);
        }
        self.after = match &self.plan {
            Some(Plan::Alone { .. }) if self.is_in_unit => After::NoUnit,
            _ if is_inside => After::NoUnit,
            _ => After::Plan,
        };
        let (key, unit_bytes) = (self.ids.next(), bytes.len());
        let name = self.name;
        let unit = |used, bytes: usize, elements, join| Step::Unit {
            used,
            unit: UnitBegin {
                key,
                elements,
                bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                is_awaited: true,
                join,
            },
        };
        let Some(plan) = &self.plan else {
            return Ok(need_more(bytes.len() as u64 + 1));
        };
        let whole = match plan {
            Plan::Alone { used, .. }
            | Plan::Unpack { used, .. }
            | Plan::Skip { used, .. }
            | Plan::Ping { used, .. } => *used,
            Plan::Entries { bytes, .. } => *bytes,
            Plan::Stream { head, .. } => *head,
        };
        if unit_bytes < whole {
            // As it was before, and not all of it is offered this time.
            return Ok(need_more(whole as u64));
        }
        let of = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        Ok(match plan {
            Plan::Alone { .. } if self.is_in_unit => Step::NoUnit { used: 0 },
            Plan::Alone {
                used,
                severity,
                tag,
                pair,
            } => message(*used, *severity, of(tag), of(pair)),
            Plan::Entries {
                head,
                bytes,
                messages,
                chunk: Some(_),
                ..
            } => unit(*head, *bytes, Elements::Exactly(*messages), name),
            Plan::Entries { head, .. } => Step::NoUnit { used: *head },
            Plan::Stream { head, region } => match region.tail {
                Tail::Options => unit(*head, 0, Elements::UntilEnd, None),
                Tail::Read(_) => Step::NoUnit { used: *head },
            },
            Plan::Unpack {
                used,
                packed,
                coding,
                ..
            } => Step::Unpack {
                used: *used,
                packed: of(packed),
                coding: *coding,
                bytes_max: self.port.unpacked_bytes_max,
            },
            Plan::Skip { chunk: Some(_), .. } => unit(0, 0, Elements::Exactly(0), None),
            Plan::Skip { used, why, .. } => Step::Skipped {
                used: *used,
                why: *why,
            },
            Plan::Ping { used, taken } => self.next_of_ping(*used, *taken),
        })
    }

    fn next_of_ping(&self, used: usize, taken: u8) -> Step<'static> {
        let is_refused = !self.is_known();
        match taken {
            0 => Step::Unit {
                used: 0,
                unit: UnitBegin {
                    key: KEY_PING,
                    elements: Elements::Exactly(0),
                    bytes: 0,
                    is_awaited: true,
                    join: None,
                },
            },
            1 if is_refused => Step::Skipped {
                used: 0,
                why: Oddity::KeyRefused,
            },
            _ if is_refused => Step::End { used },
            _ => Step::Nothing { used },
        }
    }

    /// The first thing that the plan says was done.
    pub fn plan_taken(&mut self) {
        self.state = match self.plan.take() {
            Some(Plan::Entries { region, chunk, .. }) => {
                self.is_in_unit = chunk.is_some();
                if let Some(chunk) = chunk {
                    self.ids.begin(Some(chunk));
                }
                State::Entries(region)
            }
            Some(Plan::Stream { region, .. }) => {
                self.is_in_unit = matches!(region.tail, Tail::Options);
                self.messages = 0;
                if self.is_in_unit {
                    self.ids.begin(None);
                }
                State::Entries(region)
            }
            Some(Plan::Unpack { chunk, .. }) => State::Packed(chunk),
            Some(Plan::Skip {
                used,
                why,
                chunk: Some(chunk),
            }) => {
                self.ids.begin(Some(chunk));
                self.is_in_unit = true;
                let chunk = None;
                self.plan = Some(Plan::Skip { used, why, chunk });
                return;
            }
            Some(Plan::Ping { used, taken }) if taken < 2 && (taken == 0 || !self.is_known()) => {
                let taken = taken + 1;
                self.is_in_unit = true;
                self.plan = Some(Plan::Ping { used, taken });
                return;
            }
            Some(Plan::Alone { .. } | Plan::Skip { .. } | Plan::Ping { .. }) | None => {
                State::Between
            }
        };
        self.skip = Skip::default();
        self.end_if_empty();
    }
}

/// Under which a chunk is known when it comes again: made of its id, and of its length and both ends as well, for
/// clients that number their chunks and share an address.
fn name_of(chunk: &[u8], whole: &[u8]) -> JoinKey {
    const END_BYTES: usize = 96;
    let first = whole.get(..END_BYTES).unwrap_or(whole);
    let last = whole.get(whole.len().saturating_sub(END_BYTES)..);
    let len = (whole.len() as u64).to_be_bytes();
    let digest = auth::sha512(&[chunk, &len, first, last.unwrap_or_default()]);
    let mut name = JoinKey::default();
    name.copy_from_slice(&digest[..size_of::<JoinKey>()]);
    name
}

/// Where a part of `whole` is.
fn range_of(part: &[u8], whole: &[u8]) -> Range<usize> {
    let from = part.as_ptr().addr() - whole.as_ptr().addr();
    from..from + part.len()
}
