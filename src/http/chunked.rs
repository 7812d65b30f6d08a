//! Chunked bodies, in any pieces.
//!
//! ```text
//!   5;name=value\r\n  hello\r\n  0\r\n  Trailer: x\r\n  \r\n
//!   |     |           data              |               end
//!   |     extension: ignored            trailers: dropped
//!   hexadecimal size
//! ```

use super::error::{quoted, HttpError};
use super::head::{body_too_large, is_token};
use super::query::hex;

/// Digits of a size: more would not fit 64 bits.
const DIGITS_MAX: u8 = 16;
/// All extensions of a body together: no known client sends any.
const EXTENSION_BYTES_MAX: usize = 4096;
/// All trailers of a body together.
const TRAILER_BYTES_MAX: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// Where in a chunked body the next byte belongs.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    place: Place,
    digits: u8,
    /// Of the size line being read, then what is left of that chunk.
    size: u64,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl Decoder {
    pub fn new() -> Self {
        Self {
            place: Place::Size,
            digits: 0,
            size: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Takes bytes off `input` and gives data to `sink`, with whether a chunk ends behind it; true at the end of
    /// the body. `room` is what the body may still grow by: a chunk that announces more is refused before its data.
    pub fn feed(
        &mut self,
        input: &mut &[u8],
        mut room: usize,
        mut sink: impl FnMut(&[u8], bool),
    ) -> Result<bool, HttpError> {
        while self.place != Place::End {
            if self.place == Place::Data {
                let len = usize::try_from(self.size).unwrap_or(usize::MAX);
                let (data, rest) = input.split_at(len.min(input.len()));
                if data.is_empty() {
                    return Ok(false);
                }
                room -= data.len();
                self.size -= data.len() as u64;
                sink(data, self.size == 0);
                *input = rest;
                if self.size == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            let Some((byte, rest)) = input.split_first() else {
                return Ok(false);
            };
            *input = rest;
            self.place = self.framing(*byte, room)?;
        }
        Ok(true)
    }

    /// The place behind one byte that is not data.
    fn framing(&mut self, byte: u8, room: usize) -> Result<Place, HttpError> {
        match (self.place, byte) {
            (Place::Size, b'\r') if self.digits > 0 => Ok(Place::SizeLf),
            (Place::Size | Place::SizeSpace, b';') if self.digits > 0 => self.extension(),
            // RFC 9112 section 7.1.1: white space before an extension, and nowhere else.
            (Place::Size | Place::SizeSpace, b' ' | b'\t') if self.digits > 0 => {
                self.extension()?;
                Ok(Place::SizeSpace)
            }
            (Place::Size, _) => self.digit(byte, room),
            (Place::Extension, b'\r') => Ok(Place::SizeLf),
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extension(),
            (Place::SizeLf, b'\n') if self.size == 0 => Ok(Place::TrailerStart),
            (Place::SizeLf, b'\n') => Ok(Place::Data),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => {
                (self.digits, self.size) = (0, 0);
                Ok(Place::Size)
            }
            (Place::TrailerStart, b'\r') => Ok(Place::EndLf),
            (Place::TrailerStart, _) if is_token(byte) => self.trailer(Place::TrailerName),
            (Place::TrailerName, b':') => self.trailer(Place::TrailerValue),
            (Place::TrailerName, _) if is_token(byte) => self.trailer(Place::TrailerName),
            (Place::TrailerValue, b'\r') => Ok(Place::TrailerLf),
            (Place::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailer(Place::TrailerValue)
            }
            (Place::TrailerLf, b'\n') => Ok(Place::TrailerStart),
            (Place::EndLf, b'\n') => Ok(Place::End),
            (place, _) => Err(bad_chunk(place, byte)),
        }
    }

    fn digit(&mut self, byte: u8, room: usize) -> Result<Place, HttpError> {
        let Some(digit) = hex(byte) else {
            return Err(bad_chunk(self.place, byte));
        };
        self.digits += 1;
        if self.digits > DIGITS_MAX {
            let detail = format!("a chunk size has more than {DIGITS_MAX} digits");
            return Err(HttpError::fatal(400, "bad_chunk", detail));
        }
        self.size = self.size << 4 | u64::from(digit);
        if self.size > room as u64 {
            return Err(HttpError {
                detail: format!("a chunk announces more than the {room} bytes left to the body"),
                ..body_too_large(self.size, room)
            });
        }
        Ok(Place::Size)
    }

    fn extension(&mut self) -> Result<Place, HttpError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            let detail = format!("chunk extensions have more than {EXTENSION_BYTES_MAX} bytes");
            return Err(HttpError::fatal(400, "bad_chunk", detail));
        }
        Ok(Place::Extension)
    }

    fn trailer(&mut self, place: Place) -> Result<Place, HttpError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            let detail = format!("trailers have more than {TRAILER_BYTES_MAX} bytes");
            return Err(HttpError::fatal(431, "trailers_too_large", detail));
        }
        Ok(place)
    }
}

fn bad_chunk(place: Place, byte: u8) -> HttpError {
    let allowed = match place {
        Place::Size => "hexadecimal digits, then CR LF or `;`",
        Place::Extension => "printable characters up to CR LF",
        Place::SizeLf | Place::DataLf | Place::TrailerLf | Place::EndLf => "LF behind CR",
        Place::DataCr => "CR LF behind a chunk's data",
        _ => "trailers `name: value`, each with CR LF, then CR LF",
    };
    let detail = format!("chunked body: {} where {allowed} is due", quoted(&[byte]));
    HttpError::fatal(400, "bad_chunk", detail)
}
