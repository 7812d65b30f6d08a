//! Packets compressed.

use flate2::{Compress, Crc, FlushCompress, Status};

/// Appends one gzip member (RFC 1952) with `bytes` in it.
pub(super) fn gzip(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    deflate(bytes, false, out);
    let mut crc = Crc::new();
    crc.update(bytes);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
}

/// Appends one zlib stream (RFC 1950) with `bytes` in it.
pub(super) fn zlib(bytes: &[u8], out: &mut Vec<u8>) {
    deflate(bytes, true, out);
}

fn deflate(bytes: &[u8], has_zlib_head: bool, out: &mut Vec<u8>) {
    let mut deflate = Compress::new(flate2::Compression::fast(), has_zlib_head);
    loop {
        out.reserve(64 << 10);
        let used = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(used..).unwrap_or_default();
        match deflate.compress_vec(rest, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => break,
            Ok(_) => {}
            Err(error) => {
                debug_assert!(false, "memory is all that compressing needs: {error}");
                break;
            }
        }
    }
}
