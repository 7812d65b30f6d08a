//! In what order systems run in a round.
//!
//! ```text
//! round 0   A B C        what runs second finds a warmer machine, other caches, another clock:
//! round 1   C B A        in two rounds of a line the places of each system have the same mean
//! round 2   B C A
//! round 3   A C B        of three or more the middle one would always be in the middle:
//! round 4   C A B        each two rounds begin one further, so that in 2 n rounds each of n systems
//! round 5   B A C        comes to each place twice
//! ```
//!
//! Balanced are places, not neighbours: a system runs after the one before it on the ring or after the one
//! behind it, each equally often, and with four or more never after the others.

/// Places `0..count` in the order of `round`: forward, then back, in turn; of three or more one further on
/// the ring with every two rounds.
pub fn order(round: u32, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if count > 2 {
        order.rotate_left((round / 2) as usize % count);
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_rounds_go_back() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
        assert_eq!(order(2, 3), [1, 2, 0]);
        assert_eq!(order(3, 3), [0, 2, 1]);
        assert!(order(1, 0).is_empty());
        let of_two: Vec<Vec<usize>> = (0..4).map(|round| order(round, 2)).collect();
        assert_eq!(of_two, [[0, 1], [1, 0], [0, 1], [1, 0]]);
    }

    #[test]
    fn each_comes_to_each_place_equally_often() {
        for count in 2..=7 {
            let mut times = vec![vec![0; count]; count];
            // From any round on: rounds that do not count may come before.
            for first in 0..4 {
                for round in first..first + 2 * count as u32 {
                    for (place, system) in order(round, count).into_iter().enumerate() {
                        times[system][place] += 1;
                    }
                }
            }
            assert!(times.iter().flatten().all(|n| *n == 8), "{times:?}");
        }
    }

    #[test]
    fn in_two_rounds_the_mean_place_is_the_same() {
        for round in (0..10).step_by(2) {
            let (there, back) = (order(round, 5), order(round + 1, 5));
            assert!(there.iter().eq(back.iter().rev()), "{there:?} {back:?}");
        }
    }
}
