//! Answers of nameservers: whatever comes, it ends, nobody who does not know the number is believed, and what is taken
//! is in the answer.
//!
//! Input: u8 kind (odd: SRV), answer.

use std::net::IpAddr;

use weir::discover::{read_answer, Heard};

use super::input::Input;

/// Of the question that the corpus answers.
const ID: u16 = 7;
const NAME: &str = "weir.test";

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let is_srv = input.u8() & 1 == 1;
    let bytes = input.rest();
    let heard = read_answer(ID, NAME, is_srv, bytes);
    assert_eq!(heard, read_answer(ID, NAME, is_srv, bytes));
    if bytes.first_chunk() != Some(&ID.to_be_bytes()) {
        assert_eq!(heard, Heard::NotTheAnswer, "who cannot know the number");
    }
    let Heard::Addresses(ips) = heard else { return };
    for ip in &ips {
        let is_there = match ip {
            IpAddr::V4(ip) => bytes.windows(4).any(|four| four == ip.octets()),
            IpAddr::V6(ip) => bytes.windows(16).any(|some| some == ip.octets()),
        };
        assert!(is_there, "{ip} is not in the answer");
    }
}
