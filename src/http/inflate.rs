//! Compressed bodies, with a hard bound on what comes out.
//!
//! ```text
//!   gzip    | header | deflate | CRC-32, length | header | ...   members, one behind the other
//!   zstd    | frame | frame | ...
//! ```

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::error::HttpError;
use super::head::Coding;

/// Parts of one body: a part without content costs time and yields nothing.
const PARTS_MAX: usize = 1024;
/// First capacity of the output; it doubles from there.
const OUTPUT_BYTES_MIN: usize = 4096;
/// zstd's own bounds of a window.
/// zstd's name for a frame whose window is above the bound.
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = 27;

/// Inflates a whole body. Never holds more than one byte above `bytes_max` of output; beside that, zstd
/// takes a window of at most the next power of two, and both some 200 KiB of state, for this call.
pub(super) fn inflate(coding: Coding, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    let mut output = Output {
        bytes: Vec::new(),
        bytes_max,
    };
    match coding {
        Coding::Identity => output.bytes.extend_from_slice(body),
        Coding::Gzip => gzip(body, &mut output)?,
        Coding::Zstd => zstd(body, &mut output)?,
    }
    Ok(output.bytes)
}

struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    /// Room for one byte more at least, or 413.
    fn make_room(&mut self) -> Result<(), HttpError> {
        let (len, allowed) = (self.bytes.len(), self.bytes_max);
        if len > allowed {
            let detail = format!("the body inflates to more than {allowed} bytes");
            return Err(HttpError::request(413, "inflated_too_large", detail));
        }
        if len == self.bytes.capacity() {
            let capacity = (2 * len)
                .max(OUTPUT_BYTES_MIN)
                .min(allowed.saturating_add(1));
            self.bytes.reserve_exact(capacity - len);
        }
        Ok(())
    }
}

fn corrupt(detail: impl Into<String>) -> HttpError {
    HttpError::request(400, "bad_compression", detail)
}

fn too_many_parts() -> HttpError {
    let detail = format!("the compressed body has more than {PARTS_MAX} members or frames");
    HttpError::request(413, "inflated_too_large", detail)
}

fn gzip(mut body: &[u8], output: &mut Output) -> Result<(), HttpError> {
    let mut state = Decompress::new(false);
    for _ in 0..PARTS_MAX {
        let start = output.bytes.len();
        body = gzip_header(body).ok_or_else(|| corrupt("gzip: no header, or cut short in it"))?;
        body = deflate(&mut state, body, output)?;
        let (trailer, rest) = body
            .split_first_chunk::<8>()
            .ok_or_else(|| corrupt("gzip: cut short before its checksum"))?;
        let mut crc = Crc::new();
        crc.update(&output.bytes[start..]);
        let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
        if trailer != expected.as_slice() {
            return Err(corrupt("gzip: checksum or length does not match"));
        }
        if rest.is_empty() {
            return if output.bytes.len() > output.bytes_max {
                output.make_room()
            } else {
                Ok(())
            };
        }
        body = rest;
        state.reset(false);
    }
    Err(too_many_parts())
}

/// Behind the header of a member, RFC 1952 section 2.3.
fn gzip_header(bytes: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let ([0x1F, 0x8B, 8, flags, ..], mut rest) = bytes.split_first_chunk::<10>()? else {
        return None;
    };
    if flags & 0xE0 != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (len, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for field in [NAME, COMMENT] {
        if flags & field != 0 {
            rest = &rest[memchr::memchr(0, rest)? + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// Inflates one deflate stream; what lies behind it.
fn deflate<'a>(
    state: &mut Decompress,
    body: &'a [u8],
    output: &mut Output,
) -> Result<&'a [u8], HttpError> {
    let mut rest = body;
    loop {
        output.make_room()?;
        let (read, written) = (state.total_in(), output.bytes.len());
        let status = state
            .decompress_vec(rest, &mut output.bytes, FlushDecompress::None)
            .map_err(|error| corrupt(format!("gzip: {error}")))?;
        let read = usize::try_from(state.total_in() - read).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        match status {
            Status::StreamEnd => return Ok(rest),
            _ if read == 0 && output.bytes.len() == written => {
                return Err(corrupt("gzip: cut short"));
            }
            _ => {}
        }
    }
}

fn zstd(body: &[u8], output: &mut Output) -> Result<(), HttpError> {
    let mut state = DCtx::try_create().ok_or_else(|| corrupt("zstd: no memory"))?;
    let window = output.bytes_max.max(1).next_power_of_two().ilog2();
    let window = window.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
    let failed = |code| match zstd_safe::get_error_name(code) {
        WINDOW_TOO_LARGE => {
            let detail = format!("zstd: a window above 2^{window} bytes; allowed is 2^{window}");
            HttpError::request(413, "inflated_too_large", detail)
        }
        name => corrupt(format!("zstd: {name}")),
    };
    state
        .set_parameter(DParameter::WindowLogMax(window))
        .map_err(failed)?;
    let mut input = InBuffer::around(body);
    let mut frames = 0;
    loop {
        output.make_room()?;
        let (read, written) = (input.pos(), output.bytes.len());
        let mut room = OutBuffer::around_pos(&mut output.bytes, written);
        let left = state
            .decompress_stream(&mut room, &mut input)
            .map_err(failed)?;
        if left == 0 {
            frames += 1;
            if input.pos() == body.len() {
                return if output.bytes.len() > output.bytes_max {
                    output.make_room()
                } else {
                    Ok(())
                };
            }
            if frames == PARTS_MAX {
                return Err(too_many_parts());
            }
        } else if input.pos() == read && output.bytes.len() == written {
            return Err(corrupt("zstd: cut short"));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
