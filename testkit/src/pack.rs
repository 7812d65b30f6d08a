//! Compressed bytes to be unpacked: an encoder of our own around the deflate and zstd of others.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// One member without optional fields.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    member(data, 0, &[])
}

/// One member whose header has `flags` and what they announce.
pub fn member(data: &[u8], flags: u8, fields: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 0, 255];
    out.extend_from_slice(fields);
    let mut packed = Vec::with_capacity(data.len() + 100);
    let mut state = Compress::new(Compression::fast(), false);
    state
        .compress_vec(data, &mut packed, FlushCompress::Finish)
        .expect("room is there");
    out.append(&mut packed);
    let mut crc = Crc::new();
    crc.update(data);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    out
}

/// One stream, with zlib's header and checksum or without.
pub fn deflated(data: &[u8], has_header: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 100);
    let mut state = Compress::new(Compression::fast(), has_header);
    state
        .compress_vec(data, &mut out, FlushCompress::Finish)
        .expect("room is there");
    out
}

/// One frame.
pub fn zstd(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
    zstd_safe::compress(&mut out, data, 3).expect("room is there");
    out
}
