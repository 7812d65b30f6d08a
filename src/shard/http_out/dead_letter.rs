//! Packets that every analyzer refuses. They are set aside in a file, one line of JSON each, or in memory
//! (`src/shard/refused.rs`), and leave the books as dropped.
//!
//! ```text
//! nobody takes it -> append to <--dead-letter-dir>/refused-<shard>.ndjson -> written: through
//!                              `- no file, no room, disk error: memory -> through
//! ```
//!
//! A line is written before its packet leaves the lane. An analyzer that goes down in between leaves the
//! packet in the file and with another analyzer: twice, not lost. A write that is cut short counts as
//! none: its packet stays, and what it left in the file is ended by the line that comes next.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::bytes::join_frames;
use super::draft::packet_of;
use super::{Became, Foreign, HttpEgress, HttpLink, Line, Outcome, UNREADABLE};
use crate::context::Context;
use crate::outlets::Aside;
use crate::port::{Completion, Io};
use crate::refused::RefusedPacket;
use crate::slab::{token, Kind, Slot};
use weir_config::Joined;
use weir_engine::{LinkEpoch, Reason};
use weir_http as http;
use weir_protocol::record::Record;

const LOG_EVERY_NS: u64 = 1_000_000_000;

impl<I: Io> HttpEgress<I> {
    /// A file, opened to append, that refused packets are set aside in, and whether it ends within a line.
    pub(crate) fn set_refused_file(&mut self, file: I::Socket, is_torn: bool) {
        self.dead_letters.file = Some(file);
        self.dead_letters.is_torn = is_torn;
    }

    /// Nobody takes a post: it is kept elsewhere.
    pub(super) fn dead_letter(
        &mut self,
        cx: &mut Context<I>,
        epoch: LinkEpoch,
        number: u64,
        status: u16,
    ) {
        self.dead_letters.waiting.push_back(Line {
            link: epoch,
            post: number,
            status,
            foreign: None,
        });
        self.write_lines(cx);
    }

    /// The same for a message that an analyzer with an outlet refused. [`HttpEgress::take_set_aside`] says when it is
    /// done.
    pub(crate) fn set_aside(&mut self, cx: &mut Context<I>, aside: Aside) {
        let limits = Joined {
            bytes_max: usize::MAX,
            messages_max: 1,
        };
        let now = http::iso8601(cx.io.unix_ms());
        let whole =
            Record::parse(&aside.record).and_then(|(record, _)| Some(record.body()?.to_vec()));
        let joined = || {
            Some(
                join_frames(&aside.record, limits, &mut self.ids, &now)?
                    .0
                    .body,
            )
        };
        let packet = whole.or_else(joined).unwrap_or_else(|| b"null".to_vec());
        self.dead_letters.waiting.push_back(Line {
            link: aside.link,
            post: aside.message,
            status: aside.status,
            foreign: Some(Foreign {
                analyzer: aside.analyzer,
                packet,
            }),
        });
        self.write_lines(cx);
    }

    /// Messages of outlets that are set aside by now.
    pub(crate) fn take_set_aside(&mut self) -> Vec<(LinkEpoch, u64)> {
        std::mem::take(&mut self.dead_letters.set_aside)
    }

    /// Writes the next line, when none is being written. Links that are gone wait for nothing any more.
    fn write_lines(&mut self, cx: &mut Context<I>) {
        while self.dead_letters.writing.len() == 0 {
            let Some(line) = self.dead_letters.waiting.pop_front() else {
                return;
            };
            let link = line.link;
            match self.write_next(cx, line) {
                Ok(()) => continue,
                Err((line, Some(why))) => self.not_written(cx, line, &why),
                Err((line, None)) => self.keep(cx, line, Became::InMemory, ""),
            }
            self.want_pump(link);
        }
    }

    /// What is set aside of a post, as JSON: its packet, or what a request in another format has, as one.
    fn packet(&mut self, cx: &mut Context<I>, refused: &Line) -> Option<Vec<u8>> {
        let unix_ms = cx.io.unix_ms();
        let link = self.links.get_mut(&refused.link)?;
        let is_packets = link.format.is_none();
        let post = link.post_mut(refused.post)?;
        if is_packets {
            let head = memchr::memmem::find(&post.request, b"\r\n\r\n")?;
            return Some(post.request[head + 4..].to_vec());
        }
        let lane = cx.engine.lane_of(refused.link)?;
        let (first, messages) = post.aside.unwrap_or((refused.post, post.messages));
        let records = cx.engine.identified_records_of(lane, first, messages);
        let records = records.iter().map(|(_, bytes)| &bytes[..]);
        let is_in = |number: u64| post.aside.is_none() && post.has_arrived(number);
        Some(packet_of(records, &mut self.ids, unix_ms, is_in))
    }

    /// Starts to write a refused packet's line. The error says why not; none, where it does not belong.
    fn write_next(
        &mut self,
        cx: &mut Context<I>,
        refused: Line,
    ) -> Result<(), (Line, Option<String>)> {
        let packet = match (&refused.foreign, &self.dead_letters.file) {
            (None, Some(_)) => match self.packet(cx, &refused) {
                Some(packet) => packet,
                None => return Err((refused, None)),
            },
            _ => Vec::new(),
        };
        let letters = &mut self.dead_letters;
        let Some(file) = letters.file.as_ref() else {
            return Err((refused, None));
        };
        let mut line = Vec::new();
        if letters.is_torn && cx.io.file_bytes(file) > 0 {
            line.push(b'\n');
        }
        let time = http::iso8601(cx.io.unix_ms());
        let written = match (&refused.foreign, self.links.get_mut(&refused.link)) {
            (Some(foreign), _) => {
                let Foreign { analyzer, packet } = foreign;
                write_line(&mut line, &time, analyzer, refused.status, 1, packet)
            }
            (None, Some(link)) => link.write_line(&mut line, &time, &refused, &packet),
            (None, None) => None,
        };
        if written.is_none() {
            return Err((refused, None));
        }
        let (held, max) = (cx.io.file_bytes(file), cx.config.http.dead_letter_bytes_max);
        if held.saturating_add(line.len() as u64) > max {
            let line = line.len();
            let why = format!(
                "it holds {held} bytes, the line has {line}, --dead-letter-max allows {max}"
            );
            return Err((refused, Some(why)));
        }
        let slot = letters.writing.insert(refused);
        cx.io.append(file, line, token(Kind::DeadLetter, slot));
        Ok(())
    }

    pub(crate) fn on_dead_letter(
        &mut self,
        cx: &mut Context<I>,
        slot: Slot,
        completion: Completion,
    ) {
        let line = cx.io.sent_bytes(completion.token);
        let letters = &mut self.dead_letters;
        let Some(refused) = letters.writing.remove(slot) else {
            return;
        };
        let why = match completion.count() {
            Ok(written) if written == line.len() => None,
            Ok(written) => Some(format!("{written} of {} bytes written", line.len())),
            Err(error) => Some(error.to_string()),
        };
        letters.is_torn = why.is_some();
        let link = refused.link;
        match why {
            Some(why) => self.not_written(cx, refused, &why),
            None => {
                cx.engine.counters.count(Reason::RefusedByAnalyzer);
                self.set_aside_through(cx, &refused, Became::InFile, "");
            }
        }
        self.want_pump(link);
        self.write_lines(cx);
    }

    /// Keeps a packet in memory.
    fn keep(&mut self, cx: &mut Context<I>, mut refused: Line, became: Became, why: &str) {
        let (analyzer, messages, packet) = match refused.foreign.take() {
            Some(Foreign { analyzer, packet }) => {
                refused.foreign = Some(Foreign {
                    analyzer: std::sync::Arc::clone(&analyzer),
                    packet: Vec::new(),
                });
                (analyzer, 1, packet)
            }
            None => {
                let packet = self.packet(cx, &refused).unwrap_or_default();
                let Some(link) = self.links.get_mut(&refused.link) else {
                    return;
                };
                let analyzer = std::sync::Arc::clone(&link.target.name);
                let Some(post) = link.post_mut(refused.post) else {
                    return;
                };
                (analyzer, post.missing(), packet)
            }
        };
        cx.shared.refused.push(RefusedPacket {
            unix_ms: cx.io.unix_ms(),
            analyzer,
            status: refused.status,
            messages,
            packet,
        });
        cx.engine.counters.count(Reason::RefusedByAnalyzer);
        self.set_aside_through(cx, &refused, became, why);
    }

    /// A packet is set aside: it is through.
    fn set_aside_through(
        &mut self,
        cx: &mut Context<I>,
        refused: &Line,
        became: Became,
        why: &str,
    ) {
        let Line {
            link, post, status, ..
        } = *refused;
        match &refused.foreign {
            Some(foreign) => {
                let analyzer = std::sync::Arc::clone(&foreign.analyzer);
                self.say_refusal(cx, &analyzer, status, became, why);
                self.dead_letters.set_aside.push((link, post));
            }
            None => {
                self.note_refusal(cx, link, status, became, why);
                self.post_through(cx, link, post, Outcome::Refused);
            }
        }
    }

    /// There is a file and the line is not in it.
    fn not_written(&mut self, cx: &mut Context<I>, refused: Line, why: &str) {
        cx.engine.counters.count(Reason::NotSetAside);
        let folder = cx
            .config
            .http
            .dead_letter_dir
            .as_deref()
            .unwrap_or(Path::new(""));
        let file = folder.join(refused_file_name(usize::from(cx.index)));
        let file = file.display();
        let why = format!("{file} ({why})");
        self.keep(cx, refused, Became::NotInFile, &why);
    }

    /// Says what became of a refused packet, once a second at most.
    pub(super) fn note_refusal(
        &mut self,
        cx: &mut Context<I>,
        link: LinkEpoch,
        status: u16,
        became: Became,
        why: &str,
    ) {
        let Some(found) = self.links.get(&link) else {
            return;
        };
        let name = std::sync::Arc::clone(&found.target.name);
        self.say_refusal(cx, &name, status, became, why);
    }

    fn say_refusal(
        &mut self,
        cx: &mut Context<I>,
        name: &str,
        status: u16,
        became: Became,
        why: &str,
    ) {
        let logged = &mut self.dead_letters.logged[became as usize];
        logged.unlogged += 1;
        if cx.now_ns.saturating_sub(logged.at_ns) < LOG_EVERY_NS {
            return;
        }
        logged.at_ns = cx.now_ns;
        let count = std::mem::take(&mut logged.unlogged);
        let what = match became {
            Became::Moved => "another analyzer is asked",
            Became::Waits => {
                "no analyzer takes it, which may be their fault: it stays and is tried again"
            }
            Became::InFile => "it was set aside",
            Became::InMemory => "it is kept in memory",
            Became::NotInFile => "it is kept in memory, as it cannot be written to ",
        };
        let answer = match status {
            UNREADABLE => "no answer of HTTP".to_owned(),
            status => format!("status {status}"),
        };
        log::warn!(
            "analyzer {} refused a packet ({answer}): {what}{why}; {count} since the last such line",
            weir_protocol::text::Field(name)
        );
    }
}

/// Opens a file to append lines to, and says whether it ends within one.
///
/// # Errors
/// It cannot be opened. One that can be written and not read is taken for torn.
pub fn open_refused(path: &Path) -> io::Result<(OwnedFd, bool)> {
    let mut options = File::options();
    let file = options.create(true).append(true).mode(0o640).open(path)?;
    let is_torn = ends_within_a_line(path).unwrap_or(true);
    Ok((file.into(), is_torn))
}

fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The file of a shard, in the folder of `--dead-letter-dir`.
pub fn refused_file_name(shard: usize) -> String {
    format!("refused-{shard}.ndjson")
}

impl HttpLink {
    fn write_line(
        &self,
        out: &mut Vec<u8>,
        time: &[u8],
        refused: &Line,
        packet: &[u8],
    ) -> Option<()> {
        let messages = self.posts.get(&refused.post)?.missing();
        write_line(
            out,
            time,
            &self.target.name,
            refused.status,
            messages,
            packet,
        )
    }
}

/// One line: what was refused, by whom, when and how. Line ends within the packet lie between its
/// values, as JSON has none inside of strings; they become spaces.
fn write_line(
    out: &mut Vec<u8>,
    time: &[u8],
    analyzer: &str,
    status: u16,
    messages: u64,
    packet: &[u8],
) -> Option<()> {
    let heading = serde_json::json!({
        "time": String::from_utf8_lossy(time), "analyzer": analyzer, "status": status,
        "messages": messages,
    });
    let heading = heading.to_string();
    out.extend_from_slice(heading.strip_suffix('}')?.as_bytes());
    out.extend_from_slice(b",\"packet\":");
    let is_line_end = |byte: u8| byte == b'\n' || byte == b'\r';
    out.extend(packet.iter().map(|byte| match is_line_end(*byte) {
        true => b' ',
        false => *byte,
    }));
    out.extend_from_slice(b"}\n");
    Some(())
}
