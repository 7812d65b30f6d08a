//! Native links: greetings and batches. Bytes of any sort in any split give the same result as whole,
//! and the one that section 5 of `docs/PROTOCOL.md` says; what is encoded decodes to itself.
//!
//! Input: u8 what, u16 split, then a stream, or the fields of something to be encoded.

use weir::protocol::frame;
use weir::protocol::native::{
    BatchCursor, BatchHeader, Hello, HelloReader, LinkWord, NativeError, Welcome,
    BATCH_HEADER_BYTES, DRAIN, GOODBYE, HELLO_BYTES, ID_BYTES_MAX, MAGIC, ORIGIN_BYTES,
    TOKEN_BYTES_MAX, WELCOME_BYTES,
};

use super::input::{pieces, Input};

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.below(6);
    let seed = input.u16();
    match what {
        0 => hello_stream(input.rest(), seed),
        1 => welcome_stream(input.rest(), seed),
        2 => batch_stream(&mut input, seed),
        3 => hello_again(&mut input, seed),
        4 => welcome_again(&mut input, seed),
        _ => batches_again(&mut input, seed),
    }
}

// Greetings ---------------------------------------------------------------------------------------

/// Shard, weight, window in bytes and in messages, id, token, instance, forms.
type HelloFields = (
    Option<u16>,
    u64,
    u64,
    u32,
    String,
    Vec<u8>,
    Option<u64>,
    bool,
);

fn fields(hello: &Hello) -> HelloFields {
    let Hello {
        shard,
        weight,
        window_bytes,
        window_messages,
        id,
        token,
        instance,
        forms,
    } = *hello;
    (
        shard,
        weight.to_bits(),
        window_bytes,
        window_messages,
        id.to_owned(),
        token.to_vec(),
        instance,
        forms,
    )
}

fn hello_stream(stream: &[u8], seed: u16) {
    let expected = hello_model(stream);
    let whole = Hello::decode(stream).map_err(|error| error.as_str());
    let whole = whole.map(|found| found.map(|(hello, used)| (fields(&hello), used)));
    assert_eq!(whole, expected, "whole");

    let mut reader = HelloReader::default();
    let mut taken = 0;
    let mut read = Ok(None);
    for piece in pieces(stream, seed) {
        let mut rest = piece;
        let found = reader.next(&mut rest);
        let found = found.map(|found| found.map(|hello| fields(&hello)));
        taken += piece.len() - rest.len();
        match found {
            None => assert!(rest.is_empty(), "`None` means that all is consumed"),
            Some(Ok(hello)) => read = Ok(Some((hello, taken))),
            Some(Err(error)) => read = Err(error.as_str()),
        }
        if read != Ok(None) {
            break;
        }
    }
    assert_eq!(read, expected, "split by {seed}");
    if let Ok(Some((hello, used))) = expected {
        check_hello_bytes(&hello, &stream[..used]);
    }
}

fn hello_model(stream: &[u8]) -> Result<Option<(HelloFields, usize)>, &'static str> {
    if !MAGIC.starts_with(&stream[..stream.len().min(4)]) {
        return Err("native_magic");
    }
    match stream {
        [_, _, _, _, version, ..] if *version != 1 => return Err("native_version"),
        _ if stream.len() < HELLO_BYTES => return Ok(None),
        [_, _, _, _, _, flags, ..] if *flags > 7 => return Err("native_flags"),
        _ => {}
    }
    let number = |at: usize, len: usize| {
        let bytes = stream[at..at + len].iter();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (has_token, has_instance) = (stream[5] & 1 == 1, stream[5] & 2 == 2);
    let token_length = if has_token { number(28, 2) as usize } else { 0 };
    if has_token && (token_length == 0 || token_length > usize::from(TOKEN_BYTES_MAX)) {
        return Err("native_token_length");
    }
    let weight = f64::from_bits(number(8, 8));
    if !weight.is_finite() || weight < 0.0 {
        return Err("first_weight_invalid");
    }
    let id_length = number(30, 2) as usize;
    if id_length == 0 || id_length > usize::from(ID_BYTES_MAX) {
        return Err("native_id_length");
    }
    let end = HELLO_BYTES + id_length + token_length + 8 * usize::from(has_instance);
    let Some(tail) = stream.get(HELLO_BYTES..end) else {
        return Ok(None);
    };
    let (id, tail) = tail.split_at(id_length);
    let token = &tail[..token_length];
    let instance = has_instance.then(|| number(end - 8, 8));
    let id = String::from_utf8(id.to_vec()).map_err(|_| "native_id_text")?;
    let shard = u16::try_from(number(6, 2)).expect("two bytes");
    let shard = (shard != 0xFFFF).then_some(shard);
    let weight = if weight == 0.0 { 0 } else { weight.to_bits() };
    let window_messages = u32::try_from(number(24, 4)).expect("four bytes");
    let hello = (
        shard,
        weight,
        number(16, 8),
        window_messages,
        id,
        token.to_vec(),
        instance,
        stream[5] & 4 == 4,
    );
    Ok(Some((hello, end)))
}

/// Written again it is the same, reserved bytes and the sign of a zero apart.
fn check_hello_bytes(hello: &HelloFields, bytes: &[u8]) {
    let (shard, weight, window_bytes, window_messages, id, token, instance, forms) = hello;
    let hello = Hello {
        shard: *shard,
        weight: f64::from_bits(*weight),
        window_bytes: *window_bytes,
        window_messages: *window_messages,
        id,
        token,
        instance: *instance,
        forms: *forms,
    };
    let mut again = Vec::new();
    hello.encode(&mut again).expect("it was decoded");
    let mut bytes = bytes.to_vec();
    if token.is_empty() {
        bytes[28..30].fill(0);
    }
    if *weight == 0 {
        bytes[8] = 0;
    }
    assert_eq!(again, bytes);
}

fn hello_again(input: &mut Input, seed: u16) {
    let shard = input.u16();
    let weight = f64::from_bits(input.u64());
    let (window_bytes, window_messages) = (input.u64(), input.u32());
    let id = String::from_utf8_lossy(input.rest()).into_owned();
    let hello = Hello {
        shard: (shard != u16::MAX).then_some(shard),
        weight,
        window_bytes,
        window_messages,
        id: &id,
        token: &[],
        instance: (shard % 2 == 1).then_some(window_bytes),
        forms: shard % 3 == 1,
    };
    let mut bytes = Vec::new();
    let encoded = hello.encode(&mut bytes);
    if !(1..=usize::from(ID_BYTES_MAX)).contains(&id.len()) {
        assert!(matches!(encoded, Err(NativeError::IdLength(_))));
        assert!(bytes.is_empty(), "nothing is written of what cannot be");
        return;
    }
    assert_eq!(encoded, Ok(()));
    if weight.is_finite() && weight >= 0.0 {
        let mut expected = fields(&hello);
        expected.1 = (weight + 0.0).to_bits();
        let decoded = Hello::decode(&bytes).expect("valid").expect("whole");
        assert_eq!((fields(&decoded.0), decoded.1), (expected, bytes.len()));
    }
    hello_stream(&bytes, seed);
}

fn welcome_stream(stream: &[u8], seed: u16) {
    let whole = Welcome::decode(stream);
    // What a prefix says, the rest cannot change.
    let mut held = 0;
    for piece in pieces(stream, seed) {
        held += piece.len();
        let found = Welcome::decode(&stream[..held]);
        if found != Ok(None) {
            assert_eq!(found, whole, "after {held} bytes");
        }
    }
    match whole {
        Ok(Some((welcome, used))) => {
            assert!((WELCOME_BYTES..=WELCOME_BYTES + 65_535).contains(&used));
            assert!(used <= stream.len());
            let mut again = Vec::new();
            welcome.encode(&mut again);
            assert_eq!(Welcome::decode(&again), Ok(Some((welcome, again.len()))));
        }
        Ok(None) => assert!(stream.len() < WELCOME_BYTES + 65_535),
        Err(error) => assert!(!error.as_str().is_empty()),
    }
}

fn welcome_again(input: &mut Input, seed: u16) {
    let is_refused = input.chance(128);
    let (shard_count, shard_index) = (input.u16(), input.u16());
    let (instance, link_epoch) = (input.u64(), input.u64());
    let repeat = 1 + usize::from(input.u16()) * usize::from(input.chance(8));
    let reason = String::from_utf8_lossy(input.rest()).into_owned();
    // Long enough to be cut, sometimes.
    let reason = reason.repeat(repeat.min(70_000 / reason.len().max(1) + 1));
    let welcome = Welcome {
        refused: is_refused.then_some(&*reason),
        shard_count,
        shard_index,
        instance,
        link_epoch,
    };
    let mut bytes = Vec::new();
    welcome.encode(&mut bytes);
    let (decoded, used) = Welcome::decode(&bytes).expect("valid").expect("whole");
    assert_eq!(used, bytes.len());
    assert_eq!(
        Welcome {
            refused: None,
            ..decoded
        },
        Welcome {
            refused: None,
            ..welcome
        }
    );
    assert_eq!(decoded.refused.is_some(), is_refused);
    let kept = decoded.refused.unwrap_or_default();
    let cut = kept.len() < reason.len();
    assert!(reason.starts_with(kept));
    assert!(
        !is_refused || !cut || kept.len() + 3 >= 65_535,
        "not cut without need"
    );
    // Large ones are only decoded once: their prefixes would take long.
    if bytes.len() < 4096 {
        welcome_stream(&bytes, seed);
    }
}

// Batches -----------------------------------------------------------------------------------------

/// What an analyzer makes of a distributor's stream.
#[derive(Debug, PartialEq)]
enum Heard {
    Batch(BatchHeader),
    Drain,
    Goodbye,
    Message { origin: u64, frame: Vec<u8> },
    Broken(&'static str),
}

fn batch_stream(input: &mut Input, seed: u16) {
    let frame_max = input.pick(&[1 << 20, 5, 64, u32::MAX]);
    let stream = input.rest();
    let expected = stream_model(stream, frame_max);
    assert_eq!(hear(&[stream], frame_max), expected, "whole");
    assert_eq!(
        hear(&pieces(stream, seed), frame_max),
        expected,
        "split by {seed}"
    );
}

/// As a client does it: keeps what is incomplete in front of what comes next.
fn hear(pieces: &[&[u8]], frame_max: u32) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut held = Vec::new();
    let mut cursor: Option<BatchCursor> = None;
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut rest = &held[..];
        loop {
            match next(&mut cursor, &mut rest, frame_max) {
                Ok(Some(word)) => heard.push(word),
                Ok(None) => break,
                Err(error) => {
                    heard.push(Heard::Broken(error.as_str()));
                    return heard;
                }
            }
        }
        held = rest.to_vec();
    }
    heard
}

fn next(
    cursor: &mut Option<BatchCursor>,
    rest: &mut &[u8],
    frame_max: u32,
) -> Result<Option<Heard>, NativeError> {
    if let Some(batch) = cursor.as_mut().filter(|batch| batch.left_count() > 0) {
        let before = (batch.left_count(), rest.len());
        let message = batch.next(rest)?;
        if message.is_none() {
            assert_eq!(
                (batch.left_count(), rest.len()),
                before,
                "nothing is taken of a part"
            );
        }
        return Ok(message.map(|message| Heard::Message {
            origin: message.origin_sequence,
            frame: message.frame.to_vec(),
        }));
    }
    let Some((word, used)) = LinkWord::decode(rest)? else {
        return Ok(None);
    };
    *rest = &rest[used..];
    Ok(Some(match word {
        LinkWord::Drain => Heard::Drain,
        LinkWord::Goodbye => Heard::Goodbye,
        LinkWord::Batch(header) => {
            *cursor = Some(BatchCursor::new(&header, frame_max));
            Heard::Batch(header)
        }
    }))
}

/// By offsets, over a stream that is all there.
fn stream_model(stream: &[u8], frame_max: u32) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut at = 0;
    while let Some(kind) = stream.get(at) {
        match kind {
            0x11 => heard.push(Heard::Drain),
            0x12 => heard.push(Heard::Goodbye),
            0x10 => match batch_model(stream, &mut at, frame_max, &mut heard) {
                Ok(true) => continue,
                Ok(false) => break,
                Err(label) => {
                    heard.push(Heard::Broken(label));
                    break;
                }
            },
            _ => {
                heard.push(Heard::Broken("native_unknown_type"));
                break;
            }
        }
        at += 1;
    }
    heard
}

/// One batch; false when its end is missing.
fn batch_model(
    stream: &[u8],
    at: &mut usize,
    frame_max: u32,
    heard: &mut Vec<Heard>,
) -> Result<bool, &'static str> {
    let Some(head) = stream.get(*at..*at + BATCH_HEADER_BYTES) else {
        return Ok(false);
    };
    let number = |from: usize, len: usize| {
        let bytes = head[from..from + len].iter();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    if head[1] > 1 {
        return Err("native_flags");
    }
    let redelivered = head[1] == 1;
    let origin_bytes = if redelivered { ORIGIN_BYTES } else { 0 };
    let (count, body_bytes, first) = (number(4, 4), number(8, 4), number(16, 8));
    if count == 0 || body_bytes < count * (5 + origin_bytes as u64) {
        return Err("native_batch_size");
    }
    heard.push(Heard::Batch(BatchHeader {
        redelivered,
        origin_shard: number(2, 2) as u16,
        count: count as u32,
        body_bytes: body_bytes as u32,
        first_sequence: first,
        origin_epoch: number(24, 8),
    }));
    *at += BATCH_HEADER_BYTES;
    let end = *at + body_bytes as usize;
    for message in 0..count {
        let start = *at + origin_bytes;
        let Some(word) = stream.get(start..start + 4) else {
            return Ok(false);
        };
        let len = u32::from_be_bytes(word.try_into().expect("four bytes"));
        match len {
            0..5 => return Err("frame_too_short"),
            _ if len > frame_max => return Err("frame_too_long"),
            _ => {}
        }
        let next = start + len as usize;
        if next > end || (message + 1 == count && next != end) {
            return Err("native_batch_body");
        }
        let Some(frame) = stream.get(start..next) else {
            return Ok(false);
        };
        let origin = match &stream[*at..start] {
            [] => first.wrapping_add(message),
            word => u64::from_be_bytes(word.try_into().expect("eight bytes")),
        };
        heard.push(Heard::Message {
            origin,
            frame: frame.to_vec(),
        });
        *at = next;
    }
    Ok(true)
}

fn batches_again(input: &mut Input, seed: u16) {
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    while !input.is_empty() && stream.len() < 1 << 16 {
        match input.below(8) {
            0 => {
                stream.extend_from_slice(&DRAIN);
                expected.push(Heard::Drain);
            }
            1 => {
                stream.extend_from_slice(&GOODBYE);
                expected.push(Heard::Goodbye);
            }
            _ => encode_batch(input, &mut stream, &mut expected),
        }
    }
    assert_eq!(hear(&[&stream], u32::MAX), expected, "whole");
    assert_eq!(
        hear(&pieces(&stream, seed), u32::MAX),
        expected,
        "split by {seed}"
    );
}

fn encode_batch(input: &mut Input, stream: &mut Vec<u8>, expected: &mut Vec<Heard>) {
    let redelivered = input.chance(128);
    let (count, first) = (1 + input.below(20), input.u64());
    let (origin_shard, origin_epoch) = (input.u16(), input.u64());
    let mut body = Vec::new();
    let mut messages = Vec::new();
    for index in 0..count as u64 {
        let mut origin = first.wrapping_add(index);
        if redelivered {
            origin = input.u64();
            body.extend_from_slice(&origin.to_be_bytes());
        }
        let len = input.below(40);
        let (severity, payload) = (input.u8(), input.bytes(len));
        let header = frame::encode_header(payload.len() as u32, severity);
        let frame = [&header[..], payload].concat();
        body.extend_from_slice(&frame);
        messages.push(Heard::Message { origin, frame });
    }
    let header = BatchHeader {
        redelivered,
        origin_shard,
        count: count as u32,
        body_bytes: body.len() as u32,
        first_sequence: first,
        origin_epoch,
    };
    assert_eq!(BatchHeader::decode(&header.encode()), Ok(header));
    stream.extend_from_slice(&header.encode());
    stream.extend_from_slice(&body);
    expected.push(Heard::Batch(header));
    expected.extend(messages);
}
