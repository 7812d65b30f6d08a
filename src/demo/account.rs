//! Shares between two changes of weights or membership: the differences of the distributor's own account, which has what
//! each analyzer was given and what was due to it, since the start.

use std::collections::BTreeMap;

use weir_control::view::state::State;
use weir_engine::Entry;
use weir_ledger::run_report::Ledger;
use weir_streams::grouped;

use super::screen::{Look, Paint};
use super::verdict::Check;

/// Given and due to each analyzer, in messages.
type Given = BTreeMap<String, (u64, f64)>;

/// One stretch between two changes.
#[derive(Debug, PartialEq)]
struct Stretch {
    /// Seconds since the emitters were started.
    from: f64,
    given: Given,
    /// How far an analyzer may be from its due, in messages.
    bound: f64,
}

/// Follows the account.
#[derive(Default)]
pub struct Account {
    /// Who can be chosen, and with which weight.
    table: Vec<(String, f64)>,
    from: f64,
    before: Given,
    /// Changes of the table before this stretch, and what each allows: all shards, in messages.
    allowed_before: f64,
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
            self.end(seconds, &state.ledger);
            self.table = table;
        }
    }

    /// Ends the stretch that is under way, with the newest account.
    pub fn end(&mut self, seconds: f64, ledger: &Ledger) {
        // Shards follow a change one after the other: each table that came on the way allows its own, and one was
        // there (docs/SHARES.md, theorem 2).
        let one_table: f64 = ledger.shards.iter().map(|shard| shard.share_bound).sum();
        let tables = ledger.shards.iter();
        let allowed: f64 = tables
            .map(|shard| shard.share_bound * shard.tables as f64)
            .sum();
        let bound = (allowed - self.allowed_before).max(0.0) + one_table;
        self.allowed_before = allowed;
        let shares = ledger.analyzers.iter();
        let now: Given = shares
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
            self.stretches.push(Stretch { from, given, bound });
        }
        (self.before, self.from) = (now, seconds);
    }

    /// Shares were within their bound in each stretch by itself.
    pub fn check(&self) -> Check {
        let mut worst = (0.0, 0.0);
        for Stretch { from, given, bound } in &self.stretches {
            for (name, (given, due)) in given {
                let off = *given as f64 - due;
                if off.abs() > *bound {
                    return Err(format!(
                        "shares from {from:.2} s on: {name} was {off:+.2} messages from its due, beyond the bound of {bound:.2}"
                    ));
                }
                if off.abs() > worst.0 {
                    worst = (off.abs(), *bound);
                }
            }
        }
        let (off, bound) = worst;
        Ok(format!(
            "shares exact within {off:.1} messages between any two changes (bound there {bound:.1})"
        ))
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
        for Stretch { from, given, .. } in &self.stretches {
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
    use weir_ledger::run_report::ShardBooks;
    use weir_ledger::run_report::Share;

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
        account.end(0.0, &ledger(0, []));
        let two = |b, due| [share("a", 667, 666.7), share("b", b, due)];
        account.end(2.5, &ledger(1, two(333, 333.3)));
        account.end(3.0, &ledger(2, two(383, 383.3)));
        account.end(3.5, &ledger(3, two(383, 383.3)));
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

    /// One shard that has had so many changes; each allows 1 message.
    fn ledger(tables: u64, analyzers: impl Into<Vec<Share>>) -> Ledger {
        Ledger {
            shards: vec![ShardBooks {
                tables,
                share_bound: 1.0,
                ..ShardBooks::default()
            }],
            analyzers: analyzers.into(),
            ..Ledger::default()
        }
    }

    #[test]
    fn each_stretch_has_its_own_bound() {
        let mut account = Account::default();
        account.end(0.0, &ledger(1, [share("a", 0, 0.0)]));
        account.end(1.0, &ledger(1, [share("a", 101, 100.0)]));
        account.end(2.0, &ledger(2, [share("a", 203, 200.1)]));
        let held = "shares exact within 1.9 messages between any two changes (bound there 2.0)";
        assert_eq!(account.check(), Ok(held.into()));
        // 4 of 5 over the whole run, and 2.1 of 1 since the last change.
        account.end(3.0, &ledger(2, [share("a", 304, 299.0)]));
        let broken =
            "shares from 2.00 s on: a was +2.10 messages from its due, beyond the bound of 1.00";
        assert_eq!(account.check(), Err(broken.into()));
    }

    #[test]
    fn no_negative_zero() {
        assert_eq!(
            [-0.04, 0.04, -0.06, 1.25].map(signed),
            ["0.0", "0.0", "-0.1", "+1.3"]
        );
    }
}
