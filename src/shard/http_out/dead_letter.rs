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

use super::{Became, HttpEgress, HttpLink, Line, Outcome, UNREADABLE};
use crate::context::Context;
use crate::port::{Completion, Io};
use crate::refused::RefusedPacket;
use crate::slab::{token, Kind, Slot};
use weir_engine::{LinkEpoch, Reason};
use weir_http as http;

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
        });
        self.write_lines(cx);
    }

    /// Writes the next line, when none is being written. Links that are gone wait for nothing any more.
    fn write_lines(&mut self, cx: &mut Context<I>) {
        while self.dead_letters.writing.len() == 0 {
            let Some(line) = self.dead_letters.waiting.pop_front() else {
                return;
            };
            match self.write_next(cx, line) {
                Ok(()) => continue,
                Err(Some(why)) => self.not_written(cx, line, &why),
                Err(None) => self.keep(cx, line, Became::InMemory, ""),
            }
            self.want_pump(line.link);
        }
    }

    /// Starts to write a refused packet's line. The error says why not; none, where it does not belong.
    fn write_next(&mut self, cx: &mut Context<I>, refused: Line) -> Result<(), Option<String>> {
        let letters = &mut self.dead_letters;
        let file = letters.file.as_ref().ok_or(None)?;
        let link = self.links.get_mut(&refused.link).ok_or(None)?;
        let mut line = Vec::new();
        if letters.is_torn && cx.io.file_bytes(file) > 0 {
            line.push(b'\n');
        }
        let time = http::iso8601(cx.io.unix_ms());
        write_line(&mut line, link, refused.post, refused.status, &time).ok_or(None)?;
        let (held, max) = (cx.io.file_bytes(file), cx.config.http.dead_letter_bytes_max);
        if held.saturating_add(line.len() as u64) > max {
            let line = line.len();
            return Err(Some(format!(
                "it holds {held} bytes, the line has {line}, --dead-letter-max allows {max}"
            )));
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
        match why {
            Some(why) => self.not_written(cx, refused, &why),
            None => {
                cx.engine.counters.count(Reason::RefusedByAnalyzer);
                self.note_refusal(cx, refused.link, refused.status, Became::InFile, "");
                self.post_through(cx, refused.link, refused.post, Outcome::Refused);
            }
        }
        self.want_pump(refused.link);
        self.write_lines(cx);
    }

    /// Keeps a packet in memory.
    fn keep(&mut self, cx: &mut Context<I>, refused: Line, became: Became, why: &str) {
        let Some(link) = self.links.get_mut(&refused.link) else {
            return;
        };
        let analyzer = std::sync::Arc::clone(&link.target.name);
        let Some(post) = link.post_mut(refused.post) else {
            return;
        };
        let head = memchr::memmem::find(&post.request, b"\r\n\r\n");
        let body = head.map_or(post.request.len(), |head| head + 4);
        cx.shared.refused.push(RefusedPacket {
            unix_ms: cx.io.unix_ms(),
            analyzer,
            status: refused.status,
            messages: post.messages,
            packet: post.request.split_off(body),
        });
        cx.engine.counters.count(Reason::RefusedByAnalyzer);
        self.note_refusal(cx, refused.link, refused.status, became, why);
        self.post_through(cx, refused.link, refused.post, Outcome::Refused);
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
        let logged = &mut self.dead_letters.logged[became as usize];
        logged.unlogged += 1;
        if cx.now_ns.saturating_sub(logged.at_ns) < LOG_EVERY_NS {
            return;
        }
        logged.at_ns = cx.now_ns;
        let (name, count) = (&found.target.name, std::mem::take(&mut logged.unlogged));
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

/// One line: what was refused, by whom, when and how. Line ends within the packet lie between its
/// values, as JSON has none inside of strings; they become spaces.
fn write_line(
    out: &mut Vec<u8>,
    link: &mut HttpLink,
    number: u64,
    status: u16,
    time: &[u8],
) -> Option<()> {
    let name = std::sync::Arc::clone(&link.target);
    let post = link.post_mut(number)?;
    let head = memchr::memmem::find(&post.request, b"\r\n\r\n")?;
    let heading = serde_json::json!({
        "time": String::from_utf8_lossy(time), "analyzer": &*name.name, "status": status,
        "messages": post.messages,
    });
    let heading = heading.to_string();
    out.extend_from_slice(heading.strip_suffix('}')?.as_bytes());
    out.extend_from_slice(b",\"packet\":");
    let is_line_end = |byte: u8| byte == b'\n' || byte == b'\r';
    let packet = &post.request[head + 4..];
    out.extend(packet.iter().map(|byte| match is_line_end(*byte) {
        true => b' ',
        false => *byte,
    }));
    out.extend_from_slice(b"}\n");
    Some(())
}
