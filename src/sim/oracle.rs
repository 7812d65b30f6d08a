//! What is true of every message, kept apart from the distributor: who wrote it, who got it, who
//! ACKed it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::random::Random;
use weir_http::level_of;
use weir_protocol::frame::{self, FRAME_HEADER_BYTES};

/// Number of a message, in the order in which emitters made them.
pub(super) type MessageId = u32;

/// Number of a packet, in the order in which HTTP clients made them.
pub(super) type PacketId = u32;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Message {
    /// Bytes of its frame.
    pub(super) frame_bytes: u32,
    /// What it came in.
    came: Came,
    pub(super) deliveries: u32,
    pub(super) acked: bool,
    /// An analyzer over HTTP has said that it will never take it.
    pub(super) refused: bool,
    /// A native link brought it as a first delivery.
    first: bool,
    /// What native links call it.
    identity: Option<Identity>,
    /// What they call it once its emitter has sent it again.
    resent_as: Option<Identity>,
    /// Its sender has sent it again without saying so.
    is_resent: bool,
}

/// What a message came in.
#[derive(Clone, Copy, Debug, Default)]
enum Came {
    #[default]
    Frame,
    /// A packet over HTTP.
    Packet(PacketId),
    /// JSON of a sender of another protocol.
    Json { sender: usize },
}

/// What native links call a message, on whatever link and however often it comes: shard, link and
/// number of its first delivery.
pub(super) type Identity = (u16, u64, u64);

/// What a client knows of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// It was sent, or is being sent, and not answered.
    #[default]
    Open,
    /// It was answered that it is taken in.
    Taken,
    /// It was answered that nothing of it is taken in, or it never was sent whole.
    Refused,
}

/// Messages that a client sends in one request.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) messages: Range<MessageId>,
    pub(super) known: Known,
    /// Its messages went their own ways, at some time.
    pub(super) is_divided: bool,
    client: usize,
}

/// All messages of a run.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) messages: Vec<Message>,
    pub(super) packets: Vec<Packet>,
    identities: BTreeMap<Identity, MessageId>,
    /// A shard has counted an identity as lost: nothing more can be said of them.
    pub(super) identities_lost: bool,
    /// Messages that at least one analyzer has ACKed, as far as analyzers know.
    pub(super) acked: u64,
    /// Deliveries beyond each message's first.
    pub(super) duplicates: u64,
    /// Messages that an analyzer over HTTP got and has not answered for, as far as the distributor knows:
    /// they may come again.
    pub(super) unanswered: u64,
    /// Messages that count as set aside, after refusals.
    pub(super) set_aside: u64,
    /// An analyzer has called a packet too large: it may come in parts.
    pub(super) too_large: bool,
    /// Some servers take chunks of Forward.
    pub(super) has_chunks: bool,
    /// Copies of messages that their senders began to send again, without saying so.
    pub(super) resent: u64,
}

impl Oracle {
    /// A new message with a payload of `payload_bytes`, at least 4; its frame.
    pub(super) fn create(&mut self, payload_bytes: u32) -> (MessageId, Vec<u8>) {
        let id = self.messages.len() as MessageId; // far fewer
        let frame = frame_of(id, payload_bytes.max(4));
        self.messages.push(Message {
            frame_bytes: frame.len() as u32, // below the frame limit
            ..Message::default()
        });
        (id, frame)
    }

    /// A new packet of `client`, with a message for each of these sizes of frames in bytes.
    pub(super) fn create_packet(&mut self, client: usize, sizes: &[u32]) -> PacketId {
        let packet = self.packets.len() as PacketId; // far fewer
        let first = self.messages.len() as MessageId; // far fewer
        for (id, size) in (first..).zip(sizes) {
            let text = json_of(id, client, *size);
            self.messages.push(Message {
                frame_bytes: text.len() as u32 + FRAME_HEADER_BYTES, // below the frame limit
                came: Came::Packet(packet),
                ..Message::default()
            });
        }
        self.packets.push(Packet {
            messages: first..self.messages.len() as MessageId,
            known: Known::Open,
            client,
            is_divided: false,
        });
        packet
    }

    /// A new message of a sender of another protocol, its JSON with so many bytes, or as few as it can have.
    pub(super) fn create_json(&mut self, sender: usize, json_bytes: u32) -> MessageId {
        let id = self.messages.len() as MessageId; // far fewer
        self.messages.push(Message {
            came: Came::Json { sender },
            frame_bytes: json_bytes,
            ..Message::default()
        });
        let text = self.json(id);
        self.messages[id as usize].frame_bytes = text.len() as u32 + FRAME_HEADER_BYTES; // below the frame limit
        id
    }

    /// Fields of such a message, in order. All that the distributor would add is there; `{}` is an empty map.
    pub(super) fn fields(&self, id: MessageId) -> Vec<(&'static str, String)> {
        let message = &self.messages[id as usize];
        let Came::Json { sender } = message.came else {
            return Vec::new();
        };
        let time = "2026-01-01T00:00:00.000000000Z".to_owned();
        let mut fields = vec![
            ("id", id.to_string()),
            ("level", level_of(severity(id)).to_owned()),
            ("message", String::new()),
            ("source", format!("s{sender}")),
            ("metadata", "{}".to_owned()),
            ("tag", "sim".to_owned()),
            ("@timestamp", time),
        ];
        let least = json_object(&fields).len() as u32 + FRAME_HEADER_BYTES; // a few
        let filler = message.frame_bytes.saturating_sub(least);
        let mut random = Random::new(u64::from(id) | 1 << 33);
        let letters = (0..filler).map(|_| char::from(b'a' + (random.next() % 26) as u8)); // a letter
        fields[2].1 = letters.collect();
        fields
    }

    /// Such a message as JSON.
    pub(super) fn json(&self, id: MessageId) -> String {
        json_object(&self.fields(id))
    }

    /// The sender of such a message begins to send it again.
    pub(super) fn resend(&mut self, id: MessageId) {
        self.messages[id as usize].is_resent = true;
        self.resent += 1;
    }

    /// Messages that some analyzer over HTTP has refused for good.
    pub(super) fn refusals(&self) -> u64 {
        let refused = self.messages.iter().filter(|message| message.refused);
        refused.count() as u64 // of memory
    }

    /// The messages of a packet as they are sent.
    pub(super) fn texts(&self, packet: PacketId) -> impl Iterator<Item = String> + '_ {
        let packet = &self.packets[packet as usize];
        let text = |id: MessageId| json_of(id, packet.client, self.json_bytes(id));
        packet.messages.clone().map(text)
    }

    fn json_bytes(&self, id: MessageId) -> u32 {
        self.messages[id as usize].frame_bytes
    }

    /// An analyzer got a frame.
    ///
    /// # Errors
    /// It was never sent, or not like this.
    pub(super) fn delivered(&mut self, frame: &[u8]) -> Result<MessageId, String> {
        let id = self.recognize(frame)?;
        self.deliver(id);
        Ok(id)
    }

    /// An analyzer got a message that was recognized.
    pub(super) fn deliver(&mut self, id: MessageId) {
        let message = &mut self.messages[id as usize];
        self.duplicates += u64::from(message.deliveries > 0);
        message.deliveries += 1;
    }

    /// An analyzer over HTTP will never take a message.
    pub(super) fn refused(&mut self, id: MessageId) {
        self.messages[id as usize].refused = true;
    }

    /// Whose frame this is.
    ///
    /// # Errors
    /// Nobody's, or it was never taken in.
    pub(super) fn recognize(&self, frame: &[u8]) -> Result<MessageId, String> {
        let payload = frame.get(FRAME_HEADER_BYTES as usize..).unwrap_or_default();
        let id = number_of(payload).ok_or("a frame without a number was delivered")?;
        if self.messages.get(id as usize).is_none() {
            return Err(format!("message {id} was delivered and never sent"));
        }
        if frame != self.frame(id) {
            return Err(format!("message {id} was delivered with other bytes"));
        }
        if self
            .packet_of(id)
            .is_some_and(|packet| packet.known == Known::Refused)
        {
            return Err(format!(
                "message {id} was delivered, and its client knows that its packet was not taken in"
            ));
        }
        Ok(id)
    }

    /// An analyzer over HTTP got `text` as a message of a packet that the distributor made of frames.
    /// Whose frame that is.
    ///
    /// # Errors
    /// Nobody's.
    pub(super) fn recognize_payload(
        &self,
        payload: &[u8],
        level: &str,
    ) -> Result<MessageId, String> {
        let id = number_of(payload).ok_or("a message without a number was delivered")?;
        if self.messages.get(id as usize).is_none() {
            return Err(format!("message {id} was delivered and never sent"));
        }
        let frame = self.frame(id);
        let (header, own) = frame.split_at(FRAME_HEADER_BYTES as usize);
        let severity = header.last().copied().unwrap_or_default();
        if own != payload || level_of(severity) != level {
            return Err(format!("message {id} was delivered with other bytes"));
        }
        self.recognize(&frame)
    }

    /// The message of a client that an analyzer over HTTP got as `text`.
    ///
    /// # Errors
    /// As [`Oracle::recognize`].
    pub(super) fn recognize_text(&self, text: &str) -> Result<MessageId, String> {
        let id = number_of(text.as_bytes()).ok_or("a message without a number was delivered")?;
        let header = frame::encode_header(text.len() as u32, severity(id)); // of a frame
        self.recognize(&[&header, text.as_bytes()].concat())
    }

    /// The frame of a message.
    pub(super) fn frame(&self, id: MessageId) -> Vec<u8> {
        let message = &self.messages[id as usize];
        let text = match message.came {
            Came::Frame => return frame_of(id, message.frame_bytes - FRAME_HEADER_BYTES),
            Came::Packet(packet) => {
                let client = self.packets[packet as usize].client;
                json_of(id, client, message.frame_bytes)
            }
            Came::Json { .. } => self.json(id),
        };
        let header = frame::encode_header(text.len() as u32, severity(id));
        [&header, text.as_bytes()].concat()
    }

    /// The packet of a message.
    pub(super) fn packet_of(&self, id: MessageId) -> Option<&Packet> {
        match self.messages.get(id as usize)?.came {
            Came::Packet(packet) => self.packets.get(packet as usize),
            _ => None,
        }
    }

    /// A client has read the answer to a packet.
    ///
    /// # Errors
    /// It says that nothing was taken in, and analyzers have something of it.
    pub(super) fn answered(&mut self, packet: PacketId, known: Known) -> Result<(), String> {
        let one = &mut self.packets[packet as usize];
        one.known = known;
        let mut messages = one.messages.clone();
        let was_delivered = |id: &MessageId| self.messages[*id as usize].deliveries > 0;
        match messages.find(was_delivered) {
            Some(id) if known == Known::Refused => Err(format!(
                "message {id} had been delivered when its packet {packet} was refused"
            )),
            _ => Ok(()),
        }
    }

    /// A client was told that all of a packet is ACKed.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check_acked(&self, packet: PacketId) -> Result<(), String> {
        let mut messages = self.packets[packet as usize].messages.clone();
        let open = messages.find(|id| !self.messages[*id as usize].acked);
        match open {
            Some(id) => Err(format!(
                "packet {packet} was answered as ACKed, and nobody had ACKed its message {id}"
            )),
            None => Ok(()),
        }
    }

    /// An emitter was told that a message is ACKed.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn check_told(&self, id: MessageId) -> Result<(), String> {
        let message = &self.messages[id as usize];
        match message.acked || message.refused {
            true => Ok(()),
            false => Err(format!(
                "message {id} was ACKed to its emitter, and no analyzer had ACKed it"
            )),
        }
    }

    /// A client was told that a packet is set aside.
    ///
    /// # Errors
    /// No analyzer has refused anything of it.
    pub(super) fn check_refused(&self, packet: PacketId) -> Result<(), String> {
        let mut messages = self.packets[packet as usize].messages.clone();
        match messages.any(|id| self.messages[id as usize].refused) {
            true => Ok(()),
            false => Err(format!(
                "packet {packet} is set aside, and nobody has refused it"
            )),
        }
    }

    /// What a native link says of a message that it delivers.
    ///
    /// # Errors
    /// Two deliveries cannot be told to be of one message, or of two.
    pub(super) fn identified(
        &mut self,
        id: MessageId,
        identity: Identity,
        redelivered: bool,
    ) -> Result<(), String> {
        if self.identities_lost {
            return Ok(());
        }
        let owner = *self.identities.entry(identity).or_insert(id);
        if owner != id {
            return Err(format!(
                "messages {owner} and {id} are both called {identity:?}"
            ));
        }
        let message = &mut self.messages[id as usize];
        // Nobody can know that they are one.
        if message.is_resent {
            return Ok(());
        }
        let name = match identity.0 {
            u16::MAX => &mut message.resent_as,
            _ => &mut message.identity,
        };
        let known = *name.get_or_insert(identity);
        if known != identity {
            return Err(format!("message {id} is called {known:?} and {identity:?}"));
        }
        if !redelivered && std::mem::replace(&mut message.first, true) {
            return Err(format!("message {id} came twice as a first delivery"));
        }
        Ok(())
    }

    /// An analyzer that got a message ACKs it.
    pub(super) fn acked(&mut self, id: MessageId) {
        let message = &mut self.messages[id as usize];
        self.acked += u64::from(!message.acked);
        message.acked = true;
    }
}

fn frame_of(id: MessageId, payload_bytes: u32) -> Vec<u8> {
    let mut random = Random::new(u64::from(id));
    let mut frame = Vec::with_capacity(payload_bytes as usize + 5);
    frame.extend_from_slice(&frame::encode_header(payload_bytes, id as u8));
    frame.extend_from_slice(&id.to_be_bytes());
    let mut left = payload_bytes as usize - 4;
    while left > 0 {
        let bytes = random.next().to_le_bytes();
        let len = left.min(bytes.len());
        frame.extend_from_slice(&bytes[..len]);
        left -= len;
    }
    frame
}

/// What is said first of a message that came over HTTP; its number follows.
const JSON_START: &str = "{\"id\":\"";

fn severity(id: MessageId) -> u8 {
    (id % 6) as u8 // fatal to trace
}

/// A message of an HTTP client, as it is sent and as analyzers get it: all that the distributor would add
/// is there. As a frame it has `frame_bytes` bytes, or as few as it can have.
fn json_of(id: MessageId, client: usize, frame_bytes: u32) -> String {
    let mut random = Random::new(u64::from(id) | 1 << 32);
    let mut text = format!(
        "{JSON_START}{id}\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"level\":\"{}\",\"message\":\"",
        level_of(severity(id))
    );
    let end = format!("\",\"source\":\"c{client}\",\"metadata\":{{}}}}");
    let wanted = (frame_bytes as usize).saturating_sub(FRAME_HEADER_BYTES as usize + end.len());
    while text.len() < wanted {
        let letters = random
            .next()
            .to_le_bytes()
            .map(|byte| char::from(b'a' + byte % 26));
        text.extend(letters.iter().take(wanted - text.len()));
    }
    text.push_str(&end);
    text
}

/// Fields as a JSON object without white space; their texts need no escapes.
fn json_object(fields: &[(&str, String)]) -> String {
    let field = |(name, text): &(&str, String)| match text.as_str() {
        "{}" => format!("\"{name}\":{{}}"),
        text => format!("\"{name}\":\"{text}\""),
    };
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// The number that a payload says it has.
fn number_of(payload: &[u8]) -> Option<MessageId> {
    if let Some(rest) = payload.strip_prefix(JSON_START.as_bytes()) {
        let digits = rest.split(|byte| *byte == b'"').next()?;
        return std::str::from_utf8(digits).ok()?.parse().ok();
    }
    let id = payload.get(..4)?.try_into().ok()?;
    Some(MessageId::from_be_bytes(id))
}
