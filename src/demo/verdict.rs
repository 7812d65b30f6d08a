//! The last word: what was claimed, and whether it held.

use super::programs::Ended;
use super::screen::Screen;
use super::shares::{Shares, Stretch, CHECKED_MIN};
use super::table::{Look, Paint};
use super::watch::Watch;
use std::io;
use weir_streams::grouped;

/// Columns before a check's text.
const INDENT: usize = 8;

/// One claim. `Err` says what does not hold, and by how much.
pub type Check = Result<String, String>;

/// The check of conservation: the line that the distributor prints on exit.
pub fn conservation(watch: &Watch) -> Check {
    let balance = watch.balance();
    if balance.holds() {
        return Ok(balance.to_string());
    }
    let known = balance.acked + balance.open() + balance.dropped;
    let off = balance.received.abs_diff(known);
    Err(format!(
        "{balance}: {} messages unaccounted for",
        grouped(off)
    ))
}

/// Nothing was left without an ACK.
pub fn nothing_abandoned(watch: &Watch) -> Check {
    let balance = watch.balance();
    if balance.open() == 0 && balance.dropped == 0 {
        return Ok("nothing lost: every message was ACKed by an analyzer".into());
    }
    Err(format!(
        "abandoned: {} messages sent and not ACKed, {} not sent, {} dropped",
        grouped(balance.in_flight),
        grouped(balance.queued),
        grouped(balance.dropped)
    ))
}

/// What emitters sent is what was received.
pub fn sent_is_received(emitters: &[Ended], watch: &Watch) -> Check {
    let received = watch.counters().received;
    let mut sent = 0;
    for emitter in emitters {
        // One that was stopped before it connected has sent nothing, and says so.
        let is_read = emitter.number("unconfirmed") == Some(0);
        let messages = emitter.number("messages").filter(|_| is_read);
        sent += messages.ok_or_else(|| format!("no count of what was sent: {emitter}"))?;
    }
    if emitters.is_empty() && received == 0 {
        return Ok("sent = received: no emitter was started".into());
    }
    let names: Vec<_> = emitters.iter().map(|emitter| emitter.name).collect();
    let names = names.join(" and ");
    if sent == received {
        return Ok(format!(
            "sent = received: {} messages from {names}",
            grouped(sent)
        ));
    }
    Err(format!(
        "{names} sent {}, {} were received: {} {}",
        grouped(sent),
        grouped(received),
        grouped(sent.abs_diff(received)),
        if sent > received {
            "missing"
        } else {
            "too many"
        },
    ))
}

/// Analyzers counted themselves what the distributor has as ACKed, in order.
pub fn analyzers_agree(analyzers: &[Ended], watch: &Watch) -> Check {
    let (mut counted, mut out_of_order) = (0, 0);
    for analyzer in analyzers {
        let number = |key| {
            let number = analyzer.number(key).filter(|_| analyzer.status.success());
            number.ok_or_else(|| format!("no count of what was processed: {analyzer}"))
        };
        counted += number("messages")?;
        out_of_order += number("out_of_order")?;
    }
    let gone = watch.acked_by_ended();
    let acked = watch.balance().acked.saturating_sub(gone);
    if counted != acked {
        return Err(format!(
            "analyzers counted {} messages themselves, the distributor has {} as ACKed by them: {} apart",
            grouped(counted),
            grouped(acked),
            grouped(counted.abs_diff(acked))
        ));
    }
    if out_of_order > 0 {
        return Err(format!(
            "{} messages arrived out of order",
            grouped(out_of_order)
        ));
    }
    let mut text = format!(
        "analyzers counted {} themselves, none out of order",
        grouped(counted)
    );
    if gone > 0 {
        text.push_str(&format!(
            "; {} more were ACKed by the one killed",
            grouped(gone)
        ));
    }
    Ok(text)
}

/// Shares were exact, within the bound, whenever it was looked.
pub fn shares_are_exact(shares: &Shares, watch: &Watch) -> Check {
    let verdict = shares.verdict();
    if let Some(worst) = &verdict.beyond {
        return Err(format!(
            "shares: {} was {:.2} messages from its exact share on shard {}, {:.2} beyond the bound of {:.2}",
            worst.name,
            worst.distance,
            worst.shard,
            worst.distance - worst.bound,
            worst.bound
        ));
    }
    let counters = watch.counters();
    // A re-routed message is given out twice.
    let all = counters.received + counters.rerouted;
    if all == 0 {
        return Ok("shares: no message was given out".into());
    }
    let part = verdict.checked as f64 / all as f64;
    if part < CHECKED_MIN {
        return Err(format!(
            "shares: only {:.1} % of the messages could be checked ({} were given out while an analyzer was full)",
            part * 100.0,
            grouped(verdict.unchecked)
        ));
    }
    let worst = shares.worst();
    let (distance, bound) = worst.map_or((0.0, 0.0), |worst| (worst.distance, worst.bound));
    Ok(format!(
        "shares exact within {distance:.1} messages a shard (bound {bound:.1}), {:.0} % checked",
        // Rounded down: 100 means all.
        (part * 100.0).floor()
    ))
}

/// Everything that was to happen was seen to happen.
pub fn plan_was_kept(missing: &[String]) -> Check {
    match missing {
        [] => Ok("the plan was kept: killed, re-routed, back, weight changed".into()),
        missing => Err(format!("not seen: {}", missing.join(", "))),
    }
}

/// The account of shares, stretch by stretch. `started_ns` is when the demonstration began.
pub fn account(stretches: &[Stretch], started_ns: u64, look: Look) -> Vec<String> {
    let mut names: Vec<&str> = stretches
        .iter()
        .flat_map(|stretch| stretch.table.iter().map(|(name, _)| &**name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let heading = names
        .iter()
        .map(|name| format!("{name:>10}"))
        .collect::<String>();
    let heading = format!("{:>7} {:>11}         {heading}", "from", "messages");
    let mut lines = vec![look.paint(Paint::Bold, &heading)];
    for stretch in stretches {
        let cells = |cell: &dyn Fn(usize) -> String| {
            let cell = |name: &&str| {
                let mut table = stretch.table.iter();
                let at = table.position(|(other, _)| &**other == *name);
                format!("{:>10}", at.map_or_else(|| "-".to_owned(), cell))
            };
            names.iter().map(cell).collect::<String>()
        };
        let all = stretch.messages().max(1) as f64;
        let exact = cells(&|at| format!("{:.4}", stretch.exact(at) * 100.0));
        let given = cells(&|at| format!("{:.4}", stretch.given[at] as f64 / all * 100.0));
        let off = cells(&|at| signed(stretch.off(at)));
        let from = stretch.started_ns.saturating_sub(started_ns) as f64 / 1e9;
        let from = format!("{from:.2} s");
        let messages = grouped(stretch.messages());
        lines.push(format!("{from:>7} {messages:>11}  exact  {exact} %"));
        lines.push(format!("{:>19}  given  {given} %", ""));
        let full = if stretch.disturbed {
            ", not checked while full"
        } else {
            ""
        };
        lines.push(format!("{:>19}  off    {off} messages{full}", ""));
    }
    lines
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

/// Prints the checks; whether all hold.
///
/// # Errors
/// Nobody reads any more.
pub fn say(checks: &[Check], screen: &mut Screen) -> io::Result<bool> {
    let look = screen.look();
    for check in checks {
        let line = match check {
            Ok(text) => format!("{}  {text}", look.paint(Paint::Green, "ok    ")),
            Err(text) => format!("{}  {text}", look.paint(Paint::Red, "FAILED")),
        };
        screen.say_wrapped(&line, INDENT)?;
    }
    Ok(checks.iter().all(Result::is_ok))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{lane, report};

    fn watch(received: u64, acked: u64, in_flight: u64) -> Watch {
        let mut all = report(&[("a", 1.0)]);
        all.lanes = vec![lane(0, acked, 0)];
        (all.counters.received, all.counters.acked) = (received, acked);
        all.balance.received = received;
        all.balance.acked = acked;
        all.balance.in_flight = in_flight;
        let mut watch = Watch::default();
        watch.note(all);
        watch
    }

    #[test]
    fn conservation_and_abandonment_say_by_how_much() {
        assert!(
            conservation(&watch(100, 100, 0)).is_ok_and(|ok| ok.starts_with("conservation holds"))
        );
        assert!(nothing_abandoned(&watch(100, 100, 0)).is_ok());
        let broken = conservation(&watch(100, 95, 3)).expect_err("two are missing");
        assert!(broken.ends_with("2 messages unaccounted for"), "{broken}");
        let abandoned = nothing_abandoned(&watch(100, 97, 3)).expect_err("three");
        assert!(
            abandoned.starts_with("abandoned: 3 messages sent and not ACKed"),
            "{abandoned}"
        );
    }

    #[test]
    fn too_little_checked_is_a_failure() {
        let mut shares = Shares::default();
        let mut all = report(&[("a", 1.0)]);
        all.table_changes.tables = 1;
        all.lanes = vec![lane(0, 80, 0)];
        shares.note(&all, 1);
        shares.finish();
        let check = shares_are_exact(&shares, &watch(100, 100, 0)).expect_err("80 of 100");
        assert!(check.contains("only 80.0 %"), "{check}");
        assert!(shares_are_exact(&shares, &watch(80, 80, 0)).is_ok());
    }

    #[test]
    fn the_account_shows_who_was_absent() {
        let stretch = |table: &[(&str, f64)], given: &[u64], started_ns| {
            let mut shares = Shares::default();
            let mut all = report(table);
            all.table_changes.tables = 1;
            all.lanes = (0..)
                .zip(given)
                .map(|(i, given)| lane(i, *given, 0))
                .collect();
            shares.note(&all, started_ns);
            shares.finish();
            shares.stretches()[0].clone()
        };
        let look = Look {
            width: 79,
            colour: false,
            blocks: false,
        };
        let both = stretch(&[("a", 2.0), ("b", 1.0)], &[667, 333], 1_000_000_000);
        let one = stretch(&[("b", 1.0)], &[50], 3_500_000_000);
        let account = account(&[both, one], 1_000_000_000, look);
        let expected = [
            "   from    messages                  a         b",
            " 0.00 s       1,000  exact     66.6667   33.3333 %",
            "                     given     66.7000   33.3000 %",
            "                     off          +0.3      -0.3 messages",
            " 2.50 s          50  exact           -  100.0000 %",
            "                     given           -  100.0000 %",
            "                     off             -       0.0 messages",
        ];
        assert_eq!(account, expected);
    }

    #[test]
    fn no_negative_zero() {
        assert_eq!(
            [-0.04, 0.04, -0.06, 1.25].map(signed),
            ["0.0", "0.0", "-0.1", "+1.3"]
        );
    }
}
