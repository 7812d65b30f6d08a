//! Bodies that were compressed, cut, corrupted, and bombs.

use proptest::prelude::*;
use weir_testkit::pack::{deflated, gzip, member, zstd};

use super::*;

#[derive(Debug, PartialEq)]
enum Kind {
    Corrupt,
    TooLarge,
}
use Kind::{Corrupt as CORRUPT, TooLarge as TOO_LARGE};

fn failure(coding: Coding, body: &[u8], max: usize) -> Kind {
    match inflate(coding, body, max).expect_err("refused") {
        InflateError::Corrupt { .. } => CORRUPT,
        _ => TOO_LARGE,
    }
}

#[test]
fn bounds_are_exact_and_hold_for_bombs() {
    let data = vec![b'x'; 100_000];
    for (coding, packed) in [(Coding::Gzip, gzip(&data)), (Coding::Zstd, zstd(&data))] {
        assert!(packed.len() < 2_000);
        let whole = inflate(coding, &packed, data.len()).expect("it fits");
        assert_eq!(whole, data);
        assert!(whole.capacity() <= data.len() + 1, "{}", whole.capacity());
        assert_eq!(failure(coding, &packed, data.len() - 1), TOO_LARGE);
        assert_eq!(failure(coding, &packed, 0), TOO_LARGE);
        let nothing = match coding {
            Coding::Gzip => gzip(b""),
            _ => zstd(b""),
        };
        assert_eq!(inflate(coding, &nothing, 0), Ok(Vec::new()));
    }
}

#[test]
fn parts_one_behind_the_other() {
    for (coding, pack) in [
        (Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>),
        (Coding::Zstd, zstd),
    ] {
        let two = [pack(b"hello "), pack(b""), pack(b"world")].concat();
        assert_eq!(inflate(coding, &two, 11), Ok(b"hello world".to_vec()));
        assert_eq!(failure(coding, &two, 10), TOO_LARGE);
        assert_eq!(
            failure(coding, &[pack(b"a"), vec![0; 8]].concat(), 100),
            CORRUPT
        );
        let many = pack(b"").repeat(PARTS_MAX);
        assert_eq!(inflate(coding, &many, 10), Ok(Vec::new()));
        let many = pack(b"").repeat(PARTS_MAX + 1);
        assert_eq!(failure(coding, &many, 10), TOO_LARGE);
    }
}

#[test]
fn every_cut_and_every_bit_of_a_checksum_is_noticed() {
    let data = b"some text, some more text, and then the end of the text";
    for (coding, packed) in [(Coding::Gzip, gzip(data)), (Coding::Zstd, zstd(data))] {
        for cut in 0..packed.len() {
            assert_eq!(
                failure(coding, &packed[..cut], 1000),
                CORRUPT,
                "{coding:?} {cut}"
            );
        }
    }
    let packed = gzip(data);
    for bit in 0..64 {
        let mut broken = packed.clone();
        broken[packed.len() - 8 + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(failure(Coding::Gzip, &broken, 1000), CORRUPT);
    }
}

#[test]
fn optional_fields_of_gzip_are_skipped() {
    let extra = b"\x03\x00abc";
    let all = [&extra[..], b"name\0comment\0", b"\x12\x34"].concat();
    let packed = member(b"data", 2 | 4 | 8 | 16, &all);
    assert_eq!(inflate(Coding::Gzip, &packed, 4), Ok(b"data".to_vec()));
    assert_eq!(failure(Coding::Gzip, &member(b"data", 32, b""), 4), CORRUPT);
    assert_eq!(failure(Coding::Gzip, b"plain text", 100), CORRUPT);
    assert_eq!(failure(Coding::Zstd, b"plain text", 100), CORRUPT);
}

/// A frame may announce a window that costs memory before there is any data.
#[test]
fn windows_of_zstd_are_bounded() {
    let window = |log: u8| {
        let last_empty_block = [1, 0, 0];
        let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0, (log - 10) << 3];
        frame.extend_from_slice(&last_empty_block);
        frame
    };
    assert_eq!(inflate(Coding::Zstd, &window(23), 8 << 20), Ok(Vec::new()));
    assert_eq!(failure(Coding::Zstd, &window(24), 8 << 20), TOO_LARGE);
}

fn in_pieces(
    coding: Coding,
    body: &[u8],
    bytes_max: usize,
    piece: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut inflater = Inflater::new(coding, body, bytes_max)?;
    // Headers and checksums of two parts cost nothing.
    let most = 2 * piece + 2 * 18;
    loop {
        let before = inflater.work();
        let is_done = inflater.step(body, piece)?;
        assert!(inflater.work() <= before + most, "more than a piece");
        if is_done {
            return Ok(inflater.finish());
        }
        assert!(inflater.work() > before, "each step goes on");
    }
}

proptest! {
    #[test]
    fn a_body_is_the_same_in_pieces(
        data in proptest::collection::vec(0_u8..4, 0..3000),
        piece in 1_usize..2000,
        bytes_max in 0_usize..4000,
        cut in 0_usize..4,
    ) {
        let (one, two) = data.split_at(data.len() / 3);
        let bodies = [
            (Coding::Gzip, [gzip(one), gzip(two)].concat()),
            (Coding::Zstd, [zstd(one), zstd(two)].concat()),
            (Coding::Deflate, deflated(&data, true)),
            (Coding::Deflate, deflated(&data, false)),
        ];
        for (coding, mut body) in bodies {
            let whole = body.len().saturating_sub(cut.pow(2));
            body.truncate(whole);
            let expected = inflate(coding, &body, bytes_max);
            prop_assert_eq!(in_pieces(coding, &body, bytes_max, piece), expected);
        }
    }

    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let packed = [&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0][..], &bytes].concat();
        for (coding, body) in [(Coding::Gzip, &packed), (Coding::Gzip, &bytes), (Coding::Zstd, &bytes)] {
            if let Ok(data) = inflate(coding, body, 1000) {
                prop_assert!(data.len() <= 1000 && data.capacity() <= 1001);
            }
        }
    }
}

#[test]
fn deflate_comes_with_zlib_header_or_without() {
    let data: Vec<u8> = (0..50_000_u32)
        .flat_map(|n| (n / 7).to_le_bytes())
        .collect();
    for has_header in [true, false] {
        let packed = deflated(&data, has_header);
        assert_eq!(
            inflate(Coding::Deflate, &packed, data.len()).as_ref(),
            Ok(&data)
        );
        assert_eq!(failure(Coding::Deflate, &packed, data.len() - 1), TOO_LARGE);
        for end in [0, 1, 2, packed.len() / 2, packed.len() - 1] {
            assert_eq!(
                failure(Coding::Deflate, &packed[..end], data.len()),
                CORRUPT
            );
        }
        let longer = [&packed[..], b"x"].concat();
        assert_eq!(failure(Coding::Deflate, &longer, data.len()), CORRUPT);
    }
    let mut wrong = deflated(&data, true);
    *wrong.last_mut().expect("a checksum") ^= 1;
    assert_eq!(failure(Coding::Deflate, &wrong, data.len()), CORRUPT);
}
