//! Lumberjack and RELP by themselves: whatever the table of sources holds, the fuzzer spends its time on these two.
//!
//! Input: u8 protocol (odd: RELP), u8 largest frame, u16 split, stream. What must hold is that of `sources.rs`.

use weir::source::Protocol;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let protocol = match first % 2 {
        0 => Protocol::Lumberjack,
        _ => Protocol::Relp,
    };
    let number = Protocol::ALL.iter().position(|one| *one == protocol);
    // In the target of all sources, 0 says that nothing is known yet.
    let number = number.and_then(|at| u8::try_from(at + 1).ok());
    super::sources::run(&[&[number.expect("few")], rest].concat());
}
