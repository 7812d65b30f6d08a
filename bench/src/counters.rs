//! What a distributor counted, out of the lines that `weir distributor` prints at its end.
//!
//! ```text
//! emitters 64, bytes received 2560000000, receives 160000, stalls 0 (0.000 s)
//! sends 40000 (0 zero-copy, 0 of them copied), kernel entries 9000
//! ```

use crate::report::{Run, ZeroCopy};

/// Counts over the whole life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    bytes_received: u64,
    receives: u64,
    sends: u64,
    zero_copy: ZeroCopy,
    kernel_entries: u64,
}

impl Counters {
    /// `None` when a line is missing: another system, or an older build.
    pub fn parse(lines: &[String]) -> Option<Self> {
        let after = |name: &str| -> Option<u64> {
            let line = lines.iter().rev().find(|line| line.contains(name))?;
            let (_, rest) = line.split_once(name)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let sends_line = lines.iter().rev().find(|line| line.starts_with("sends "))?;
        let in_parentheses: Vec<u64> = sends_line
            .split(['(', ')', ' ', ','])
            .filter_map(|word| word.parse().ok())
            .collect();
        let [sends, zero_copy, copied, kernel_entries] = in_parentheses[..] else {
            return None;
        };
        Some(Self {
            bytes_received: after("bytes received ")?,
            receives: after(" receives ")?,
            sends,
            zero_copy: ZeroCopy {
                sends: zero_copy,
                copied,
            },
            kernel_entries,
        })
    }

    /// Fills in what follows from them: each message received once, and its bytes sent once.
    pub fn put_into(&self, run: &mut Run) {
        let received = run.messages.received as f64;
        let of = |count: u64, each: u64| (each > 0).then(|| count as f64 / each as f64);
        run.messages_per_receive = of(run.messages.received, self.receives);
        run.bytes_per_send = of(self.bytes_received, self.sends);
        run.system_calls_per_message =
            (received > 0.0).then(|| self.kernel_entries as f64 / received);
        run.zero_copy = Some(self.zero_copy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        [
            "emitters 64, bytes received 2560000000, receives 160000, stalls 0 (0.000 s)",
            "links up 4 and down 0, re-routed 0 (duplicates possible 0, identities lost 0), batches forwarded 0",
            "sends 40000 (30 zero-copy, 20 of them copied), kernel entries 9000",
            "received = acked 10000000",
        ]
        .map(String::from)
        .to_vec()
    }

    #[test]
    fn the_lines_of_a_distributor_are_read() {
        let counters = Counters::parse(&lines()).expect("all there");
        let mut run = Run::default();
        run.messages.received = 10_000_000;
        counters.put_into(&mut run);
        assert_eq!(run.messages_per_receive, Some(62.5));
        assert_eq!(run.bytes_per_send, Some(64_000.0));
        assert_eq!(run.system_calls_per_message, Some(0.0009));
        let zero_copy = run.zero_copy.expect("told");
        assert_eq!((zero_copy.sends, zero_copy.copied), (30, 20));
    }

    #[test]
    fn another_system_has_none() {
        assert_eq!(Counters::parse(&["ready".into()]), None);
        assert_eq!(Counters::parse(&lines()[2..3]), None);
    }
}
