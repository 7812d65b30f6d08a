//! The last word: what was claimed, and whether it held.

use std::io;

use super::programs::Ended;
use super::screen::{Paint, Screen};
use weir_engine::Balance;
use weir_ledger::audit::Verdict;
use weir_streams::grouped;

/// Columns before a check's text.
const INDENT: usize = 8;

/// One claim. `Err` says what does not hold, and by how much.
pub type Check = Result<String, String>;

/// The check of conservation: the line that the distributor prints on exit.
pub fn conservation(balance: &Balance) -> Check {
    if balance.holds() {
        return Ok(balance.to_string());
    }
    let known = balance.acked + balance.open() + balance.dropped;
    let off = grouped(balance.received.abs_diff(known));
    Err(format!("{balance}: {off} messages unaccounted for"))
}

/// Nothing was left without an ACK.
pub fn nothing_abandoned(balance: &Balance) -> Check {
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

/// What emitters sent is what was received. A packet whose answer was lost is sent twice.
pub fn sent_is_received(emitters: &[&str], audit: &Verdict) -> Check {
    let (sent, received) = (audit.sent, audit.books.received);
    let names = emitters.join(" and ");
    if (sent..=sent + audit.maybe_twice).contains(&received) {
        let received = grouped(received);
        return Ok(format!("sent = received: {received} messages from {names}"));
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

/// What analyzers noted in their journals, and their order.
pub fn analyzers_agree(analyzers: &[Ended], audit: &Verdict) -> Check {
    let mut out_of_order = 0;
    for analyzer in analyzers {
        let number = analyzer.number("out_of_order");
        let number = number.filter(|_| analyzer.status.success());
        out_of_order += number.ok_or_else(|| format!("no count of its messages: {analyzer}"))?;
    }
    if out_of_order > 0 {
        let out_of_order = grouped(out_of_order);
        return Err(format!("{out_of_order} messages arrived out of order"));
    }
    Ok(format!(
        "analyzers noted {} different messages, {} of them twice, none out of order",
        grouped(audit.delivered),
        grouped(audit.twice)
    ))
}

/// Shares were exact, within the bound.
pub fn shares_are_exact(audit: &Verdict) -> Check {
    let excess = |share: &&weir_ledger::run_report::Share| share.error.abs() / share.bound;
    let worst = audit
        .shares
        .iter()
        .max_by(|a, b| excess(a).total_cmp(&excess(b)));
    match worst {
        None => Ok("shares: no message was given out".into()),
        Some(worst) if worst.is_in_bound() => Ok(format!(
            "shares exact within {:.1} messages (bound {:.1})",
            worst.error.abs(),
            worst.bound
        )),
        Some(worst) => Err(format!(
            "shares: {} was {:+.2} messages from its exact share, beyond the bound of {:.2}",
            worst.analyzer, worst.error, worst.bound
        )),
    }
}

/// What `weir audit` says of the run reports.
pub fn balanced(audit: &Verdict) -> Check {
    if audit.balanced {
        return Ok(format!(
            "weir audit: balanced, by {} run reports and {} journals",
            audit.distributors + audit.emitters + audit.analyzers,
            audit.journals
        ));
    }
    let found: Vec<&str> = audit
        .findings
        .iter()
        .map(|found| found.text.as_str())
        .collect();
    Err(format!("weir audit: NOT BALANCED: {}", found.join("; ")))
}

/// Everything that was to happen was seen to happen.
pub fn plan_was_kept(missing: &[String]) -> Check {
    match missing {
        [] => Ok("the plan was kept: killed, re-routed, back, weight changed".into()),
        missing => Err(format!("not seen: {}", missing.join(", "))),
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
    use weir_ledger::run_report::{Books, Share};

    fn balance(received: u64, acked: u64, in_flight: u64) -> Balance {
        Balance {
            received,
            acked,
            in_flight,
            ..Balance::default()
        }
    }

    fn audit(sent: u64, received: u64) -> Verdict {
        let books = Books {
            received,
            ..Books::default()
        };
        Verdict {
            sent,
            books,
            ..Verdict::default()
        }
    }

    #[test]
    fn conservation_and_abandonment_say_by_how_much() {
        assert!(conservation(&balance(100, 100, 0))
            .is_ok_and(|text| text.starts_with("conservation holds")));
        assert!(nothing_abandoned(&balance(100, 100, 0)).is_ok());
        let broken = conservation(&balance(100, 95, 3)).expect_err("two are missing");
        assert!(broken.ends_with("2 messages unaccounted for"), "{broken}");
        let abandoned = nothing_abandoned(&balance(100, 97, 3)).expect_err("three");
        let start = "abandoned: 3 messages sent and not ACKed";
        assert!(abandoned.starts_with(start), "{abandoned}");
    }

    #[test]
    fn what_was_sent_again_may_be_received_twice() {
        assert!(sent_is_received(&["e1"], &audit(10, 10)).is_ok());
        let missing = sent_is_received(&["e1", "e2"], &audit(10, 8)).expect_err("two");
        assert_eq!(missing, "e1 and e2 sent 10, 8 were received: 2 missing");
        let mut again = audit(10, 12);
        assert!(sent_is_received(&["e1"], &again).is_err());
        again.maybe_twice = 2;
        assert!(sent_is_received(&["e1"], &again).is_ok());
    }

    #[test]
    fn a_share_beyond_its_bound_is_named() {
        let share = |name: &str, assigned: u64, target: f64| Share {
            analyzer: name.to_owned(),
            assigned,
            target,
            error: assigned as f64 - target,
            bound: 2.0,
            ..Share::default()
        };
        let mut audit = audit(200, 200);
        audit.shares = vec![share("a", 101, 100.0), share("b", 99, 100.0)];
        let within = shares_are_exact(&audit);
        assert_eq!(
            within,
            Ok("shares exact within 1.0 messages (bound 2.0)".into())
        );
        audit.shares.push(share("c", 103, 100.0));
        assert!(shares_are_exact(&audit).is_err_and(|why| why.contains("c was +3.00")));
    }
}
