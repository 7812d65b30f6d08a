//! Ids of packets and messages: version 4 UUIDs out of random bytes that the caller brings.

/// A UUID as text, with hyphens.
pub const UUID_BYTES: usize = 36;

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Places of the 16 bytes' first digits in the text.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// A source of ids.
pub trait Ids {
    /// The next 16 random bytes.
    fn next(&mut self) -> [u8; 16];
}

/// xoshiro256++ (Blackman and Vigna, <https://prng.di.unimi.it>): fast, and the same ids from the same
/// seed, so that a simulated distributor repeats. A real one seeds it from the kernel's randomness.
#[derive(Clone, Debug)]
pub struct SeededIds {
    state: [u64; 4],
}

impl SeededIds {
    /// From 32 random bytes, as four words. All zeros, which would stay zeros, are taken as a seed of 0.
    pub fn new(seed: [u64; 4]) -> Self {
        match seed {
            [0, 0, 0, 0] => Self::from_u64(0),
            state => Self { state },
        }
    }

    /// From one word, spread by SplitMix64 as the authors advise.
    pub fn from_u64(seed: u64) -> Self {
        let mut at = seed;
        let state = std::array::from_fn(|_| {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = at;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        });
        Self { state }
    }

    fn word(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

impl Ids for SeededIds {
    #[inline]
    fn next(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.word().to_le_bytes());
        bytes[8..].copy_from_slice(&self.word().to_le_bytes());
        bytes
    }
}

/// `bytes` as a version 4, variant 1 UUID: lower case, with hyphens. Six of the 128 bits are overwritten.
#[inline]
pub fn uuid_text(mut bytes: [u8; 16]) -> [u8; UUID_BYTES] {
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let mut text = [b'-'; UUID_BYTES];
    for (byte, place) in bytes.into_iter().zip(PLACES) {
        text[place] = HEX[usize::from(byte >> 4)];
        text[place + 1] = HEX[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4() {
        let text = |bytes| String::from_utf8(uuid_text(bytes).to_vec()).expect("ASCII");
        assert_eq!(text([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(text([255; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted = std::array::from_fn(|i| u8::try_from(i * 17).expect("small"));
        assert_eq!(text(counted), "00112233-4455-4677-8899-aabbccddeeff");
    }

    /// First outputs of the authors' C program for the state 1, 2, 3, 4.
    #[test]
    fn the_generator_is_xoshiro() {
        let mut ids = SeededIds::new([1, 2, 3, 4]);
        let words: [u64; 4] = std::array::from_fn(|_| ids.word());
        assert_eq!(
            words,
            [
                41_943_041,
                58_720_359,
                3_588_806_011_781_223,
                3_591_011_842_654_386
            ]
        );
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let ids = |seed| {
            let mut ids = SeededIds::from_u64(seed);
            [ids.next(), ids.next()]
        };
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
        assert_ne!(ids(7)[0], ids(7)[1]);
        assert_ne!(SeededIds::new([0; 4]).next(), [0; 16]);
    }
}
