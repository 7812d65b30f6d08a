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
/// First capacity of the output; it doubles from there, up to the next. Then it is what may come out, almost: pages that
/// are not written to cost nothing.
const OUTPUT_BYTES_MIN: usize = 4096;
const OUTPUT_BYTES_LARGE: usize = 1 << 20;
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
    let mut inflater = Inflater::new(coding, body, bytes_max)?;
    while !inflater.step(body, usize::MAX)? {}
    Ok(inflater.finish())
}

/// One body that is inflated a piece at a time, so that other work comes between. It holds what [`inflate`] does, until
/// it is dropped.
pub struct Inflater {
    coding: Coding,
    state: State,
    /// Bytes of the body that are read.
    read: usize,
    /// Members or frames that are whole.
    parts: usize,
    output: Output,
}

enum State {
    Gzip {
        state: Decompress,
        /// Of the member that is being read, if one is.
        crc: Option<Crc>,
    },
    Deflate(Decompress),
    Zstd {
        state: DCtx<'static>,
        window_log: u32,
    },
}

/// What a part of a body has come to.
enum Part {
    /// It is whole.
    Ended,
    /// The piece is used up.
    GoesOn,
}

impl Inflater {
    /// Before the first byte of `body`.
    ///
    /// # Errors
    /// zstd has no memory for its state.
    pub fn new(coding: Coding, body: &[u8], bytes_max: usize) -> Result<Inflater, InflateError> {
        let state = match coding {
            Coding::Gzip => State::Gzip {
                state: Decompress::new(false),
                crc: None,
            },
            Coding::Deflate => State::Deflate(Decompress::new(has_zlib_header(body))),
            Coding::Zstd => zstd_state(bytes_max)?,
        };
        Ok(Inflater {
            coding,
            state,
            read: 0,
            parts: 0,
            output: Output {
                bytes: Vec::new(),
                bytes_max,
            },
        })
    }

    /// Goes on until all is out (true), or until `piece` bytes were read and written, at least some and at most twice as
    /// many. `body` is the same at each call.
    ///
    /// # Errors
    /// See [`inflate`]; what is out is worth nothing then.
    pub fn step(&mut self, body: &[u8], piece: usize) -> Result<bool, InflateError> {
        let mut left = piece.max(1);
        loop {
            let part = match &mut self.state {
                State::Gzip { .. } => self.gzip(body, &mut left)?,
                State::Deflate(_) => self.deflate(body, &mut left)?,
                State::Zstd { .. } => self.zstd(body, &mut left)?,
            };
            if let Part::GoesOn = part {
                return Ok(false);
            }
            self.parts += 1;
            if self.read >= body.len() {
                return self.output.check().map(|()| true);
            }
            if let Coding::Deflate = self.coding {
                return Err(corrupt(Coding::Deflate, "bytes behind its end"));
            }
            if self.parts == PARTS_MAX {
                return Err(InflateError::TooManyParts);
            }
        }
    }

    /// Bytes that were read and written so far.
    pub fn work(&self) -> usize {
        self.read + self.output.bytes.len()
    }

    /// What came out.
    pub fn finish(self) -> Vec<u8> {
        self.output.bytes
    }

    /// One member of gzip.
    fn gzip(&mut self, body: &[u8], left: &mut usize) -> Result<Part, InflateError> {
        let State::Gzip { state, crc } = &mut self.state else {
            return Ok(Part::Ended);
        };
        if crc.is_none() {
            let rest = body.get(self.read..).unwrap_or_default();
            let behind = gzip_header(rest)
                .ok_or_else(|| corrupt(Coding::Gzip, "no header, or cut short in it"))?;
            self.read = body.len() - behind.len();
            if self.parts > 0 {
                state.reset(false);
            }
            *crc = Some(Crc::new());
        }
        let start = self.output.bytes.len();
        let part = self.deflate(body, left)?;
        let State::Gzip { crc, .. } = &mut self.state else {
            return Ok(part);
        };
        let sum = crc.get_or_insert_default();
        sum.update(self.output.bytes.get(start..).unwrap_or_default());
        if let Part::GoesOn = part {
            return Ok(part);
        }
        let rest = body.get(self.read..).unwrap_or_default();
        let (trailer, behind) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| corrupt(Coding::Gzip, "cut short before its checksum"))?;
        let expected = [sum.sum().to_le_bytes(), sum.amount().to_le_bytes()].concat();
        if trailer != expected.as_slice() {
            return Err(corrupt(Coding::Gzip, "checksum or length does not match"));
        }
        self.read = body.len() - behind.len();
        *crc = None;
        Ok(Part::Ended)
    }

    /// One stream of deflate.
    fn deflate(&mut self, body: &[u8], left: &mut usize) -> Result<Part, InflateError> {
        let (State::Gzip { state, .. } | State::Deflate(state)) = &mut self.state else {
            return Ok(Part::Ended);
        };
        while *left > 0 {
            let rest = body.get(self.read..).unwrap_or_default();
            let piece = rest.get(..*left).unwrap_or(rest);
            let (in_before, out_before) = (state.total_in(), state.total_out());
            let mut status = Ok(Status::BufError);
            let coding = self.coding;
            self.output.write(*left, |room| {
                status = state
                    .decompress(piece, room, FlushDecompress::None)
                    .map_err(|_| corrupt(coding, "not valid"));
                usize::try_from(state.total_out() - out_before).unwrap_or(usize::MAX)
            })?;
            let read = usize::try_from(state.total_in() - in_before).unwrap_or(usize::MAX);
            let written = usize::try_from(state.total_out() - out_before).unwrap_or(usize::MAX);
            self.read += read;
            *left = left.saturating_sub(read.saturating_add(written));
            match status? {
                Status::StreamEnd => return Ok(Part::Ended),
                _ if read == 0 && written == 0 => return Err(corrupt(coding, "cut short")),
                _ => {}
            }
        }
        Ok(Part::GoesOn)
    }

    /// One frame of zstd.
    fn zstd(&mut self, body: &[u8], left: &mut usize) -> Result<Part, InflateError> {
        let State::Zstd { state, window_log } = &mut self.state else {
            return Ok(Part::Ended);
        };
        while *left > 0 {
            let rest = body.get(self.read..).unwrap_or_default();
            let mut input = InBuffer::around(rest.get(..*left).unwrap_or(rest));
            let mut outcome = Ok(0);
            let written = self.output.write(*left, |room| {
                let mut room = OutBuffer::around(room);
                outcome = state.decompress_stream(&mut room, &mut input);
                room.pos()
            })?;
            self.read += input.pos();
            *left = left.saturating_sub(input.pos().saturating_add(written));
            let owed = outcome.map_err(|code| zstd_error(code, *window_log))?;
            if owed == 0 {
                return Ok(Part::Ended);
            }
            if input.pos() == 0 && written == 0 {
                return Err(corrupt(Coding::Zstd, "cut short"));
            }
        }
        Ok(Part::GoesOn)
    }
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

    /// Gives `write` room for one byte at least, and for `most` at most. It returns how many it has written.
    fn write(
        &mut self,
        most: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<usize, InflateError> {
        self.check()?;
        let (len, allowed) = (self.bytes.len(), self.bytes_max);
        if len == self.bytes.capacity() {
            let times = match len {
                0..OUTPUT_BYTES_LARGE => 2,
                // What it leaves behind is of no use to what follows, and seldom given back.
                _ => 16,
            };
            let capacity = len
                .saturating_mul(times)
                .max(OUTPUT_BYTES_MIN)
                .min(allowed.saturating_add(1));
            self.bytes.reserve_exact(capacity - len);
        }
        let room = (self.bytes.capacity() - len).min(most);
        self.bytes.resize(len + room, 0);
        let written = write(self.bytes.get_mut(len..).unwrap_or_default());
        self.bytes.truncate(len.saturating_add(written));
        Ok(written)
    }
}

fn corrupt(coding: Coding, what: &'static str) -> InflateError {
    InflateError::Corrupt { coding, what }
}

/// One zlib stream (RFC 1950), and not one of deflate without header and checksum: method 8, and a header that is a
/// multiple of 31 (section 2.2).
fn has_zlib_header(body: &[u8]) -> bool {
    matches!(body, [first, second, ..]
        if first & 0x0F == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31))
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

/// For frames whose window is at most the next power of two of what may come out.
fn zstd_state(bytes_max: usize) -> Result<State, InflateError> {
    let mut state = DCtx::try_create().ok_or_else(|| corrupt(Coding::Zstd, "no memory"))?;
    let window = bytes_max.max(1).next_power_of_two().ilog2();
    let window_log = window.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX);
    state
        .set_parameter(DParameter::WindowLogMax(window_log))
        .map_err(|code| zstd_error(code, window_log))?;
    Ok(State::Zstd { state, window_log })
}

fn zstd_error(code: zstd_safe::ErrorCode, log: u32) -> InflateError {
    match zstd_safe::get_error_name(code) {
        WINDOW_TOO_LARGE => InflateError::WindowTooLarge { log },
        name => corrupt(Coding::Zstd, name),
    }
}
