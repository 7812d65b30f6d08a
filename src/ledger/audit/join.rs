//! The audit: every message that was sent against every message that came, and the books between.
//!
//! ```text
//! sent  = never taken + received            emitters' run reports, distributors' books
//! received = delivered + lost               books, journals
//! ```
//!
//! What is missing is told apart twice: message by message, by whether a broken connection may have
//! lost it, and in sum, by whether a distributor had taken it in.

use std::collections::BTreeMap;
use std::io;

use crate::run_report::{Books, Distributor, Outcome};

use super::cluster;
use super::load::Evidence;
use super::streams::{Joined, Said};
use super::verdict::{Finding, Link, Verdict};

/// Joins everything.
///
/// # Errors
/// A journal cannot be read.
pub fn audit(evidence: &Evidence, strict: bool) -> io::Result<Verdict> {
    let mut verdict = Verdict {
        distributors: evidence.distributors.len(),
        emitters: evidence.emitters.len(),
        analyzers: evidence.analyzers.len(),
        journals: evidence.journals.readers().len(),
        ..Verdict::default()
    };
    for (path, distributor) in &evidence.distributors {
        let name = path.display().to_string();
        judge_books(&mut verdict, &name, distributor);
        verdict.books.add(&distributor.ledger.total);
        verdict
            .shares
            .extend(distributor.ledger.analyzers.iter().cloned());
        let links = distributor.ledger.links.iter().map(|books| Link {
            instance: distributor.instance.clone(),
            books: books.clone(),
        });
        verdict.links.extend(links);
    }
    verdict.cluster = cluster::shares(evidence.distributors.iter().map(|(_, one)| one));
    note_unreported(&mut verdict, evidence);
    join_streams(&mut verdict, evidence)?;
    judge_sums(&mut verdict, evidence);
    judge_messages(&mut verdict, evidence, strict);
    verdict.balanced = verdict.findings.is_empty();
    Ok(verdict)
}

/// Distributors that gave ACKs to emitters and left no run report: they were killed, or theirs was left out. Nothing can
/// be said of sums without their books; messages are compared one by one all the same.
fn note_unreported(verdict: &mut Verdict, evidence: &Evidence) {
    let mut acked: BTreeMap<&str, u64> = BTreeMap::new();
    let emitters = evidence.emitters.iter();
    for by in emitters.flat_map(|(_, emitter)| &emitter.acked_by) {
        *acked.entry(&by.instance).or_default() += by.messages;
    }
    for (_, distributor) in &evidence.distributors {
        acked.remove(distributor.instance.as_str());
    }
    for (instance, messages) in acked {
        verdict.unreported += 1;
        verdict.notes.push(format!(
            "distributor {instance} ACKed {messages} messages to emitters and left no run report: sums are not compared"
        ));
    }
}

fn join_streams(verdict: &mut Verdict, evidence: &Evidence) -> io::Result<()> {
    let mut joined = Joined::default();
    let mut streams: BTreeMap<String, Said<'_>> = BTreeMap::new();
    for stream in evidence.journals.streams() {
        let name = String::from_utf8_lossy(stream).into_owned();
        streams.insert(name, Said::default());
    }
    for (_, emitter) in &evidence.emitters {
        verdict.sent += emitter.sent.messages;
        verdict.unsent += emitter.sent.unsent;
        verdict.acked_to_emitters += emitter.sent.acked.unwrap_or_default();
        let streams_of = emitter.streams.iter().filter(|_| emitter.numbered);
        for stream in streams_of {
            let spans = stream.maybe_lost.iter();
            verdict.maybe_lost += spans.map(|span| span.messages()).sum::<u64>();
            let spans = stream.maybe_twice.iter();
            verdict.maybe_twice += spans.map(|span| span.messages()).sum::<u64>();
            let said = Said {
                given: &stream.given,
                maybe_lost: &stream.maybe_lost,
                maybe_twice: &stream.maybe_twice,
            };
            streams.insert(stream.stream.clone(), said);
        }
        if !emitter.numbered {
            verdict.sent_unnumbered += emitter.sent.messages;
        }
    }
    verdict.streams = streams.len();
    for (name, said) in streams {
        joined.join(&evidence.journals, &name, said)?;
    }
    verdict.delivered = joined.delivered;
    verdict.delivered_unnumbered = evidence.journals.heads().map(|head| head.unnumbered).sum();
    verdict.twice = joined.twice;
    verdict.twice_as_said = joined.twice_as_said;
    verdict.flagged = joined.flagged;
    verdict.missing = joined.missing;
    verdict.lost_on_the_way = joined.lost_on_the_way;
    verdict.unrecognised = joined.unrecognised;
    verdict.strays = joined.strays;
    Ok(())
}

/// What a distributor says must agree with itself.
fn judge_books(verdict: &mut Verdict, name: &str, distributor: &Distributor) {
    let ledger = &distributor.ledger;
    let mut sum = Books::default();
    for shard in &ledger.shards {
        sum.add(&shard.books);
        if !shard.books.holds() {
            let books = law(&shard.books);
            verdict.find(
                Finding::Law,
                format!("{name}: shard {}: {books}", shard.shard),
            );
        }
    }
    if !ledger.total.holds() {
        verdict.find(
            Finding::Law,
            format!("{name}: total: {}", law(&ledger.total)),
        );
    }
    if sum != ledger.total {
        let text = format!("{name}: the shards' books do not add up to ledger.total");
        verdict.find(Finding::Law, text);
    }
    let assigned: u64 = ledger.analyzers.iter().map(|share| share.assigned).sum();
    let given = ledger.total.received.saturating_add(ledger.total.rerouted);
    if assigned != given && distributor.ending.outcome != Outcome::Failed {
        let text = format!("{name}: received and re-routed are {given}, analyzers got {assigned}");
        verdict.find(Finding::Law, text);
    }
    let acked: u64 = ledger.analyzers.iter().map(|share| share.acked).sum();
    if acked != ledger.total.acked {
        let text = format!(
            "{name}: ACKed are {}, by analyzers {acked}",
            ledger.total.acked
        );
        verdict.find(Finding::Law, text);
    }
    for share in ledger.analyzers.iter().filter(|share| !share.is_in_bound()) {
        let text = format!(
            "{name}: {} was given {} messages, {:.1} were due: beyond the bound of {:.1}",
            share.analyzer, share.assigned, share.target, share.bound
        );
        verdict.find(Finding::Shares, text);
    }
    let target: f64 = ledger.analyzers.iter().map(|share| share.target).sum();
    let bound: f64 = ledger.analyzers.iter().map(|share| share.bound).sum();
    if (target - assigned as f64).abs() > bound {
        let text = format!("{name}: {assigned} messages were given, {target:.1} were due in all");
        verdict.find(Finding::Shares, text);
    }
    match distributor.ending.outcome {
        Outcome::Clean => {}
        Outcome::Running => verdict.notes.push(format!("{name}: written while it ran")),
        Outcome::Failed => {
            let text = format!("{name}: a shard failed; its last report stands for its books");
            verdict.find(Finding::Failed, text);
        }
        Outcome::Abandoned | Outcome::EndedAtOnce => {
            let ending = &distributor.ending;
            let how = match ending.outcome {
                Outcome::EndedAtOnce => "ended at once",
                _ => "drained until its deadline",
            };
            verdict.notes.push(format!(
                "{name}: {how} and left {} messages sent and not ACKed, {} not sent, {} bytes not routed, {} emitters not read to their end",
                ending.abandoned_in_flight,
                ending.abandoned_queued,
                ending.unrouted_bytes,
                ending.unfinished_emitters
            ));
        }
    }
}

fn law(books: &Books) -> String {
    format!(
        "received {} is not acked {} + in flight {} + queued {} + dropped {}",
        books.received,
        books.acked,
        books.in_flight,
        books.queued,
        books.dropped_messages()
    )
}

/// Sums of all programs against each other.
fn judge_sums(verdict: &mut Verdict, evidence: &Evidence) {
    let (sent, received) = (verdict.sent, verdict.books.received);
    let delivered = verdict.delivered + verdict.delivered_unnumbered;
    verdict.never_taken = sent.saturating_sub(received);
    let dropped = verdict.books.dropped_messages();
    // What emitters sent twice may be in the books twice.
    let arrived = delivered + verdict.strays.messages + verdict.twice_as_said;
    verdict.taken_and_lost = received.saturating_sub(arrived + dropped);
    if received > sent + verdict.maybe_twice && verdict.unreported == 0 {
        let text = format!("distributors received {received} messages, emitters sent {sent}: an emitter's run report is missing");
        verdict.find(Finding::Incomplete, text);
    }
    // Unnumbered messages may have come twice.
    let different = verdict.delivered + verdict.strays.messages;
    if different > received && verdict.unreported == 0 {
        let text = format!("analyzers have {different} different messages, distributors received {received}: a distributor's run report is missing");
        verdict.find(Finding::Incomplete, text);
    }
    let acked = verdict.books.acked;
    if acked > arrived {
        let text = format!("{acked} messages were ACKed, journals have {delivered}: an analyzer's journal is missing or has lost something");
        verdict.find(Finding::Incomplete, text);
    }
    for (path, analyzer) in &evidence.analyzers {
        let (mine, name) = (&analyzer.journaled, path.display());
        if mine.messages > different {
            let text = format!(
                "{name}: {} has {} messages by its run report, all journals together {different}",
                analyzer.id, mine.messages
            );
            verdict.find(Finding::Incomplete, text);
        }
    }
}

/// Messages one by one.
fn judge_messages(verdict: &mut Verdict, evidence: &Evidence, strict: bool) {
    let missing = verdict.missing.messages;
    if missing > 0 {
        let text = format!("{missing} messages are missing, and no broken connection explains it");
        verdict.find(Finding::Missing, text);
    }
    if verdict.taken_and_lost > 0 {
        let text = format!(
            "{} messages were taken in by a distributor and are at no analyzer",
            verdict.taken_and_lost
        );
        verdict.find(Finding::Lost, text);
    }
    let on_the_way = verdict.lost_on_the_way.messages;
    if on_the_way > 0 {
        let text = format!("{on_the_way} messages are missing that may have been lost in socket buffers of connections that broke");
        if strict {
            verdict.find(Finding::Missing, text);
        } else {
            verdict.notes.push(text);
        }
    }
    if verdict.unrecognised.messages > 0 {
        let text = format!(
            "{} messages came more than once on native links without being flagged",
            verdict.unrecognised.messages
        );
        verdict.find(Finding::Duplicates, text);
    }
    // Of a run that was cut off, the last re-routes are not in its books.
    let is_whole = |(_, it): &(_, Distributor)| it.ending.outcome == Outcome::Clean;
    let unsaid = verdict.twice - verdict.twice_as_said;
    let is_explained = unsaid <= verdict.books.duplicates_possible || verdict.unreported > 0;
    if !is_explained && evidence.distributors.iter().all(is_whole) {
        let text = format!(
            "{unsaid} messages came more than once, the distributors' re-routes explain {}",
            verdict.books.duplicates_possible
        );
        verdict.find(Finding::Duplicates, text);
    }
    if verdict.strays.messages > 0 {
        let text = format!(
            "{} messages came that no emitter's run report has",
            verdict.strays.messages
        );
        verdict.find(Finding::Incomplete, text);
    }
    if verdict.delivered_unnumbered + verdict.sent_unnumbered > 0 {
        let text = format!(
            "{} messages came without a number ({} sent so): only their sums are compared",
            verdict.delivered_unnumbered, verdict.sent_unnumbered
        );
        verdict.notes.push(text);
    }
}
