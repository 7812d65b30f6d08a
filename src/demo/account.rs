//! Shares between two changes of weights or membership: the differences of the distributor's own account, which has what
//! each analyzer was given and what was due to it, since the start.

use std::collections::BTreeMap;

use weir_control::view::state::State;
use weir_engine::Entry;
use weir_ledger::run_report::Share;
use weir_streams::grouped;

use super::screen::{Look, Paint};

/// Given and due to each analyzer, in messages.
type Given = BTreeMap<String, (u64, f64)>;

/// One stretch between two changes.
#[derive(Debug, PartialEq)]
struct Stretch {
    /// Seconds since the emitters were started.
    from: f64,
    given: Given,
}

/// Follows the account.
#[derive(Default)]
pub struct Account {
    /// Who can be chosen, and with which weight.
    table: Vec<(String, f64)>,
    from: f64,
    before: Given,
    stretches: Vec<Stretch>,
}

impl Account {
    /// From now on seconds count: the emitters are started.
    pub fn begin(&mut self) {
        self.from = 0.0;
    }

    /// Takes what is known at this moment.
    pub fn note(&mut self, seconds: f64, state: &State) {
        let chosen = state.entries().iter().map(Entry::effective_weight);
        let names = state.entries().iter().map(|entry| entry.name.to_string());
        let mut table: Vec<(String, f64)> = names.zip(chosen).collect();
        table.sort_by(|a, b| a.0.cmp(&b.0));
        if table != self.table {
            self.end(seconds, &state.ledger.analyzers);
            self.table = table;
        }
    }

    /// Ends the stretch that is under way, with the newest account.
    pub fn end(&mut self, seconds: f64, shares: &[Share]) {
        let now: Given = shares
            .iter()
            .map(|share| (share.analyzer.clone(), (share.assigned, share.target)))
            .collect();
        let since = |(name, (assigned, due)): (&String, &(u64, f64))| {
            let (before, was_due) = self.before.get(name).copied().unwrap_or_default();
            let given = (assigned.saturating_sub(before), due - was_due);
            (given.0 > 0 || given.1 > 0.0).then(|| (name.clone(), given))
        };
        let given: Given = now.iter().filter_map(since).collect();
        if !given.is_empty() {
            let from = self.from;
            self.stretches.push(Stretch { from, given });
        }
        (self.before, self.from) = (now, seconds);
    }

    /// A line for what was due, one for what was given, one for the difference, for each stretch.
    pub fn lines(&self, look: Look) -> Vec<String> {
        let mut names: Vec<&str> = self
            .stretches
            .iter()
            .flat_map(|stretch| stretch.given.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        let heading: String = names.iter().map(|name| format!("{name:>10}")).collect();
        let heading = format!("{:>7} {:>11}         {heading}", "from", "messages");
        let mut lines = vec![look.paint(Paint::Bold, &heading)];
        for Stretch { from, given } in &self.stretches {
            let cells = |cell: &dyn Fn(u64, f64) -> String| -> String {
                let cell = |name: &&str| match given.get(*name) {
                    Some((given, due)) => format!("{:>10}", cell(*given, *due)),
                    None => format!("{:>10}", "-"),
                };
                names.iter().map(cell).collect()
            };
            let messages: u64 = given.values().map(|(given, _)| given).sum();
            let all = messages.max(1) as f64;
            let all_due: f64 = given.values().map(|(_, due)| due).sum();
            let due = cells(&|_, due| format!("{:.4}", due / all_due.max(1.0) * 100.0));
            let got = cells(&|given, _| format!("{:.4}", given as f64 / all * 100.0));
            let off = cells(&|given, due| signed(given as f64 - due));
            let from = format!("{from:.2} s");
            let messages = grouped(messages);
            lines.push(format!("{from:>7} {messages:>11}  due    {due} %"));
            lines.push(format!("{:>19}  given  {got} %", ""));
            lines.push(format!("{:>19}  off    {off} messages", ""));
        }
        lines
    }
}

fn signed(messages: f64) -> String {
    // No "-0.0".
    let tenths = (messages * 10.0).round() / 10.0 + 0.0;
    if tenths == 0.0 {
        "0.0".to_owned()
    } else {
        format!("{tenths:+.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str, assigned: u64, target: f64) -> Share {
        Share {
            analyzer: name.to_owned(),
            assigned,
            target,
            ..Share::default()
        }
    }

    #[test]
    fn stretches_are_differences_and_show_who_was_absent() {
        let mut account = Account::default();
        account.end(0.0, &[]);
        account.end(2.5, &[share("a", 667, 666.7), share("b", 333, 333.3)]);
        account.end(3.0, &[share("a", 667, 666.7), share("b", 383, 383.3)]);
        account.end(3.5, &[share("a", 667, 666.7), share("b", 383, 383.3)]);
        let look = Look {
            width: 79,
            colour: false,
            blocks: false,
        };
        let expected = [
            "   from    messages                  a         b",
            " 0.00 s       1,000  due       66.6700   33.3300 %",
            "                     given     66.7000   33.3000 %",
            "                     off          +0.3      -0.3 messages",
            " 2.50 s          50  due             -  100.0000 %",
            "                     given           -  100.0000 %",
            "                     off             -       0.0 messages",
        ];
        assert_eq!(account.lines(look), expected);
    }

    #[test]
    fn no_negative_zero() {
        assert_eq!(
            [-0.04, 0.04, -0.06, 1.25].map(signed),
            ["0.0", "0.0", "-0.1", "+1.3"]
        );
    }
}
