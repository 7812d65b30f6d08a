//! An analyzer in the dialect `typed`: one connection, no id (docs/PROTOCOL.md, sections 2 and 3).
//! Standard library only. `examples/analyzer.py` has native links.
//!
//!     cargo run --example analyzer -- 127.0.0.1:8081 0.5

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Lengths of frames that are believed; a header has five bytes.
const FRAME_BYTES: std::ops::RangeInclusive<usize> = 5..=16 << 20;

/// Your work goes here. Weir keeps the message until the ACK behind it.
fn process(severity: u8, payload: &[u8]) {
    println!("{severity} {}", String::from_utf8_lossy(payload));
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, weight] = &words[..] else {
        return Err("usage: analyzer ADDRESS WEIGHT".into());
    };
    let weight: f64 = weight.parse()?;
    let mut link = TcpStream::connect(address)?;
    link.write_all(&weight.to_be_bytes())?; // the first word

    let mut data = Vec::new();
    let mut chunk = [0; 64 << 10];
    let mut number = 0_u32; // the n-th frame of a connection is number n; numbers wrap
    loop {
        let received = link.read(&mut chunk)?;
        if received == 0 {
            return Ok(()); // the distributor has closed the link
        }
        data.extend_from_slice(&chunk[..received]);
        let (frames, used) = process_whole_frames(&data)?;
        data.drain(..used); // what has not arrived whole stays
        if frames > 0 {
            number = number.wrapping_add(frames);
            // The ACK: everything up to this number is processed.
            link.write_all(&[&[0][..], &number.to_be_bytes()].concat())?;
        }
    }
}

/// How many frames there were, and how many bytes they had.
fn process_whole_frames(data: &[u8]) -> Result<(u32, usize), Box<dyn Error>> {
    let (mut frames, mut used) = (0, 0);
    while let Some((header, rest)) = data[used..].split_first_chunk::<5>() {
        let [length @ .., severity] = header;
        let length = u32::from_be_bytes(*length) as usize; // of the whole frame
        if !FRAME_BYTES.contains(&length) {
            return Err(format!("a frame of {length} bytes, allowed are {FRAME_BYTES:?}").into());
        }
        let Some(payload) = rest.get(..length - 5) else {
            break;
        };
        process(*severity, payload);
        frames += 1;
        used += length;
    }
    Ok((frames, used))
}
