//! Compressed bytes, with a hard bound on what comes out.
//!
//! ```text
//!   gzip    | header | deflate | CRC-32, length | header | ...   members, one behind the other
//!   deflate | zlib header | deflate | Adler-32 |                RFC 9110; or the deflate part alone, which
//!                                                              some clients send under this name
//!   zstd    | frame | frame | ...
//! ```

#![forbid(unsafe_code)]

use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::fmt;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

#[cfg(test)]
mod tests;

/// Members or frames of one body: one without content costs time and yields nothing.
pub const PARTS_MAX: usize = 1024;
/// First capacity of the output; it doubles from there.
const OUTPUT_BYTES_MIN: usize = 4096;
/// zstd's name for a frame whose window is above the bound.
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";
/// zstd's own bounds of a window.
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = 27;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Members of RFC 1952.
    Gzip,
    /// One stream of RFC 1950, or its deflate part alone.
    Deflate,
    /// Frames of RFC 8878.
    Zstd,
}

impl Coding {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Zstd => "zstd",
        }
    }
}

/// Why nothing comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// More comes out than so many bytes.
    TooLarge {
        /// What is allowed.
        max: usize,
    },
    /// A frame wants a window of more than 2^`log` bytes.
    WindowTooLarge {
        /// What is allowed, as a power of two.
        log: u32,
    },
    /// More than [`PARTS_MAX`] members or frames.
    TooManyParts,
    /// Not what it says it is.
    Corrupt {
        /// How it should be compressed.
        coding: Coding,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { max } => write!(f, "it inflates to more than {max} bytes"),
            Self::WindowTooLarge { log } => {
                write!(f, "zstd: a window above 2^{log} bytes; allowed is 2^{log}")
            }
            Self::TooManyParts => write!(f, "more than {PARTS_MAX} members or frames"),
            Self::Corrupt { coding, what } => write!(f, "{}: {what}", coding.as_str()),
        }
    }
}

impl std::error::Error for InflateError {}

/// Inflates a whole body. Never holds more than one byte above `bytes_max` of output; beside that, zstd
/// takes a window of at most the next power of two, and both some 200 KiB of state, for this call.
///
/// # Errors
/// It is not what `coding` says, or more comes out than is allowed.
pub fn inflate(coding: Coding, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    let mut output = Output {
        bytes: Vec::new(),
        bytes_max,
    };
    match coding {
        Coding::Gzip => gzip(body, &mut output)?,
        Coding::Deflate => zlib(body, &mut output)?,
        Coding::Zstd => zstd(body, &mut output)?,
    }
    Ok(output.bytes)
}

struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    fn check(&self) -> Result<(), InflateError> {
        let max = self.bytes_max;
        match self.bytes.len() <= max {
            true => Ok(()),
            false => Err(InflateError::TooLarge { max }),
        }
    }

    /// Room for one byte more at least.
    fn make_room(&mut self) -> Result<(), InflateError> {
        self.check()?;
        let (len, allowed) = (self.bytes.len(), self.bytes_max);
        if len == self.bytes.capacity() {
            let capacity = (2 * len)
                .max(OUTPUT_BYTES_MIN)
                .min(allowed.saturating_add(1));
            self.bytes.reserve_exact(capacity - len);
        }
        Ok(())
    }
}

fn corrupt(coding: Coding, what: &'static str) -> InflateError {
    InflateError::Corrupt { coding, what }
}

fn gzip(mut body: &[u8], output: &mut Output) -> Result<(), InflateError> {
    let mut state = Decompress::new(false);
    for _ in 0..PARTS_MAX {
        let start = output.bytes.len();
        body = gzip_header(body)
            .ok_or_else(|| corrupt(Coding::Gzip, "no header, or cut short in it"))?;
        body = deflate(Coding::Gzip, &mut state, body, output)?;
        let (trailer, rest) = body
            .split_first_chunk::<8>()
            .ok_or_else(|| corrupt(Coding::Gzip, "cut short before its checksum"))?;
        let mut crc = Crc::new();
        crc.update(&output.bytes[start..]);
        let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
        if trailer != expected.as_slice() {
            return Err(corrupt(Coding::Gzip, "checksum or length does not match"));
        }
        if rest.is_empty() {
            return output.check();
        }
        body = rest;
        state.reset(false);
    }
    Err(InflateError::TooManyParts)
}

/// One zlib stream (RFC 1950), or one of deflate without header and checksum.
fn zlib(body: &[u8], output: &mut Output) -> Result<(), InflateError> {
    // Method 8, and a header that is a multiple of 31: RFC 1950 section 2.2.
    let has_header = matches!(body, [first, second, ..]
        if first & 0x0F == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31));
    let mut state = Decompress::new(has_header);
    let rest = deflate(Coding::Deflate, &mut state, body, output)?;
    if !rest.is_empty() {
        return Err(corrupt(Coding::Deflate, "bytes behind its end"));
    }
    output.check()
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
    coding: Coding,
    state: &mut Decompress,
    body: &'a [u8],
    output: &mut Output,
) -> Result<&'a [u8], InflateError> {
    let mut rest = body;
    loop {
        output.make_room()?;
        let (read, written) = (state.total_in(), output.bytes.len());
        let status = state
            .decompress_vec(rest, &mut output.bytes, FlushDecompress::None)
            .map_err(|_| corrupt(coding, "not valid"))?;
        let read = usize::try_from(state.total_in() - read).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        match status {
            Status::StreamEnd => return Ok(rest),
            _ if read == 0 && output.bytes.len() == written => {
                return Err(corrupt(coding, "cut short"));
            }
            _ => {}
        }
    }
}

fn zstd(body: &[u8], output: &mut Output) -> Result<(), InflateError> {
    let mut state = DCtx::try_create().ok_or_else(|| corrupt(Coding::Zstd, "no memory"))?;
    let window = output.bytes_max.max(1).next_power_of_two().ilog2();
    let window = window.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
    let failed = |code| match zstd_safe::get_error_name(code) {
        WINDOW_TOO_LARGE => InflateError::WindowTooLarge { log: window },
        name => corrupt(Coding::Zstd, name),
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
                return output.check();
            }
            if frames == PARTS_MAX {
                return Err(InflateError::TooManyParts);
            }
        } else if input.pos() == read && output.bytes.len() == written {
            return Err(corrupt(Coding::Zstd, "cut short"));
        }
    }
}
