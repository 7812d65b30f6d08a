//! The verdict, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::cluster::ClusterShare;
use super::streams::Listed;
use crate::run_report::{Books, LinkBooks, Share};

/// What is wrong, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A distributor's books do not balance or do not agree with themselves.
    Law,
    /// An analyzer is farther from its share than the tree may be.
    Shares,
    /// Messages are missing.
    Missing,
    /// A distributor took messages in that are nowhere.
    Lost,
    /// Messages came twice and should not have, or not so.
    Duplicates,
    /// A program's run report or journal is not among the files.
    Incomplete,
    /// A distributor failed.
    Failed,
}

/// A finding and its figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// What.
    pub finding: Finding,
    /// With figures.
    pub text: String,
}

/// A link, and whose it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// The distributor's `instance`, 16 hexadecimal digits.
    pub instance: String,
    /// What its run report says of the link.
    #[serde(flatten)]
    pub books: LinkBooks,
}

/// What an audit came to. In messages unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Nothing was found.
    pub balanced: bool,
    /// What was found.
    pub findings: Vec<Found>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// Run reports of distributors.
    pub distributors: usize,
    /// Distributors that emitters name, and that left no run report.
    pub unreported: usize,
    /// Run reports of emitters.
    pub emitters: usize,
    /// Run reports of analyzers.
    pub analyzers: usize,
    /// Journals.
    pub journals: usize,
    /// Streams.
    pub streams: usize,
    /// Given to the kernel by emitters.
    pub sent: u64,
    /// Of those: without numbers.
    pub sent_unnumbered: u64,
    /// Of `sent`: may have been in a socket buffer when a connection broke.
    pub maybe_lost: u64,
    /// Of `sent`: sent again over HTTP without knowing whether they had been taken.
    pub maybe_twice: u64,
    /// Of `sent`: ACKed to their emitters.
    pub acked_to_emitters: u64,
    /// Due at emitters and never sent.
    pub unsent: u64,
    /// Sum of the distributors' books.
    pub books: Books,
    /// Sent, and in no distributor's books.
    pub never_taken: u64,
    /// In distributors' books, and at no analyzer.
    pub taken_and_lost: u64,
    /// Different messages that were sent and came.
    pub delivered: u64,
    /// Messages that came without a number.
    pub delivered_unnumbered: u64,
    /// Of `delivered`: more than once.
    pub twice: u64,
    /// Of `twice`: in packets that an emitter sent again.
    pub twice_as_said: u64,
    /// Times that a message came flagged as a possible duplicate.
    pub flagged: u64,
    /// Missing, not explained.
    pub missing: Listed,
    /// Missing, may have been lost with a connection.
    pub lost_on_the_way: Listed,
    /// Came more than once on native links without the flag.
    pub unrecognised: Listed,
    /// Came, and no emitter's run report has them.
    pub strays: Listed,
    /// Shares against weights, of each distributor in turn.
    pub shares: Vec<Share>,
    /// Links of each distributor, by which the identity of a message is looked up: of an `_id` of Elasticsearch, of a
    /// chunk of Forward, of a native link.
    pub links: Vec<Link>,
    /// The same of all distributors together, a line for each analyzer.
    pub cluster: Vec<ClusterShare>,
}

impl Verdict {
    pub(super) fn find(&mut self, finding: Finding, text: String) {
        self.findings.push(Found { finding, text });
    }

    /// Something of this sort was found.
    pub fn has(&self, finding: Finding) -> bool {
        self.findings.iter().any(|found| found.finding == finding)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let books = &self.books;
        writeln!(
            f,
            "evidence     {} distributors, {} emitters, {} analyzers; {} journals, {} streams",
            self.distributors, self.emitters, self.analyzers, self.journals, self.streams
        )?;
        writeln!(
            f,
            "sent         {} (may be lost with connections that broke: {}; due and not sent: {})",
            self.sent, self.maybe_lost, self.unsent
        )?;
        writeln!(
            f,
            "received     {} = acked {} + in flight {} + queued {} + dropped {}",
            books.received,
            books.acked,
            books.in_flight,
            books.queued,
            books.dropped_messages()
        )?;
        if books.lost_before_receipt > 0 {
            writeln!(
                f,
                "not received {} lost before receipt: datagrams that distributors' kernels dropped, in no other number here",
                books.lost_before_receipt
            )?;
        }
        writeln!(
            f,
            "delivered    {}: once {}, more than once {}; without a number {}",
            self.delivered,
            self.delivered - self.twice.min(self.delivered),
            self.twice,
            self.delivered_unnumbered
        )?;
        writeln!(
            f,
            "missing      {} unexplained, {} lost on the way; in sum never taken {}, taken and lost {}",
            self.missing.messages,
            self.lost_on_the_way.messages,
            self.never_taken,
            self.taken_and_lost
        )?;
        writeln!(
            f,
            "duplicates   {}, possible by re-routes {}, by emitters that sent again {}; not recognised on native links {}; flagged arrivals {}",
            self.twice,
            books.duplicates_possible,
            self.maybe_twice,
            self.unrecognised.messages,
            self.flagged
        )?;
        self.write_shares(f)?;
        for (what, listed) in [
            ("missing", &self.missing),
            ("on the way", &self.lost_on_the_way),
            ("unrecognised", &self.unrecognised),
            ("stray", &self.strays),
        ] {
            write_ranges(f, what, listed)?;
        }
        for note in &self.notes {
            writeln!(f, "note         {note}")?;
        }
        for found in &self.findings {
            writeln!(f, "FOUND        {}", found.text)?;
        }
        f.write_str(if self.balanced {
            "balanced"
        } else {
            "NOT BALANCED"
        })
    }
}

impl Verdict {
    fn write_shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for share in &self.shares {
            writeln!(
                f,
                "share        {:<16} {:>7.3} % of {:>7.3} % due; {} messages, off by {:+.2}, bound {:.2}",
                share.analyzer,
                share.real_share * 100.0,
                share.target_share * 100.0,
                share.assigned,
                share.error,
                share.bound
            )?;
        }
        // Of one distributor it would be the same line again.
        let cluster = self.cluster.iter().filter(|_| self.distributors > 1);
        for share in cluster {
            writeln!(
                f,
                "cluster      {:<16} {:>7.3} % of {:>7.3} % due; {} messages, off by {:+.2}, bound {:.2}; {} of {} distributors",
                share.analyzer,
                share.real_share * 100.0,
                share.target_share * 100.0,
                share.assigned,
                share.error,
                share.bound,
                share.distributors,
                self.distributors
            )?;
        }
        Ok(())
    }
}

fn write_ranges(f: &mut fmt::Formatter<'_>, what: &str, listed: &Listed) -> fmt::Result {
    let mut told = 0;
    for range in &listed.first {
        told += range.last - range.first + 1;
        writeln!(
            f,
            "{what:<12} {}:{}-{}",
            range.stream, range.first, range.last
        )?;
    }
    if listed.messages > told {
        writeln!(f, "{what:<12} and {} more", listed.messages - told)?;
    }
    Ok(())
}
