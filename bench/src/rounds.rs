//! In what order systems run in a round.
//!
//! ```text
//! round 0   A B C        what runs second finds a warmer machine, other caches, another clock;
//! round 1   C B A        each place comes as often to each system when rounds are even in number
//! round 2   A B C
//! ```

/// Places `0..count` in the order of `round`: forward, then back, in turn.
pub fn order(round: u32, count: usize) -> Vec<usize> {
    match round % 2 {
        0 => (0..count).collect(),
        _ => (0..count).rev().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_rounds_go_back() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
        assert_eq!(order(2, 3), [0, 1, 2]);
        assert!(order(1, 0).is_empty());
    }
}
