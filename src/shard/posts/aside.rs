//! Packets that an analyzer refuses for good: the answer says that the packet is at fault, so that
//! another try would end the same. They are set aside in a file, one line of JSON each, and leave the books
//! as dropped; without such a file they are tried again and go on to other analyzers, for ever.
//!
//! ```text
//! 400, 413, 415, 422 -> append to <--refused-dir>/refused-<shard>.ndjson -> written: through
//!                                      `- no file, no room, disk error: a failure like any other
//! ```
//!
//! A line is written before its packet leaves the lane. An analyzer that goes down in between leaves the
//! packet in the file and with another analyzer: twice, not lost.

use super::{Fate, HttpLink};
use crate::engine::{LinkEpoch, Reason};
use crate::http;
use crate::shard::io::Io;
use crate::shard::slab::{token, Kind, Slab, Slot};
use crate::shard::worker::Worker;
use crate::uring::Completion;

/// Statuses by which an analyzer says that the packet is at fault, not itself (RFC 9110, 15.5).
pub(super) const REFUSALS: [u16; 4] = [400, 413, 415, 422];

/// A line on its way to the file.
struct Line {
    link: LinkEpoch,
    post: u64,
    status: u16,
}

/// The place for refused packets. At most as many lines are on their way as posts are open.
pub(super) struct Aside<S> {
    file: Option<S>,
    lines: Slab<Line>,
    /// The last line was cut short: the next one begins on a line of its own.
    is_torn: bool,
}

impl<S> Aside<S> {
    pub(super) fn new() -> Aside<S> {
        Aside {
            file: None,
            lines: Slab::new(),
            is_torn: false,
        }
    }
}

impl<I: Io> Worker<I> {
    /// A file, opened to append, that refused packets are set aside in.
    pub(in crate::shard) fn set_refused_file(&mut self, file: I::Socket) {
        self.posts.aside.file = Some(file);
    }

    pub(super) fn post_refused(&mut self, epoch: LinkEpoch, number: u64, status: u16) {
        if let Err(why) = self.set_aside(epoch, number, status) {
            self.post_failed(epoch, number, &format!("status {status}{why}"));
        }
    }

    /// Starts to write a refused packet's line. The error ends a sentence about its status.
    fn set_aside(&mut self, epoch: LinkEpoch, number: u64, status: u16) -> Result<(), String> {
        let aside = &mut self.posts.aside;
        let file = aside.file.as_ref().ok_or("")?;
        let link = self.posts.links.get_mut(&epoch).ok_or("")?;
        let mut line = Vec::new();
        if std::mem::take(&mut aside.is_torn) {
            line.push(b'\n');
        }
        let time = http::iso8601(self.io.unix_ms());
        write_line(&mut line, link, number, status, &time).ok_or("")?;
        let (held, max) = (self.io.file_bytes(file), self.config.http.refused_bytes_max);
        if held.saturating_add(line.len() as u64) > max {
            return Err(format!(
                ", and the file for refused packets is full: {held} bytes of {max} (--refused-max)"
            ));
        }
        let slot = aside.lines.insert(Line {
            link: epoch,
            post: number,
            status,
        });
        self.io.append(file, line, token(Kind::SetAside, slot));
        Ok(())
    }

    pub(in crate::shard) fn on_set_aside(&mut self, slot: Slot, completion: Completion) {
        let line = self.io.sent_bytes(completion.token);
        let aside = &mut self.posts.aside;
        let Some(Line { link, post, status }) = aside.lines.remove(slot) else {
            return;
        };
        let why = match completion.count() {
            Ok(written) if written == line.len() => None,
            Ok(written) => Some(format!("{written} of {} bytes written", line.len())),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            aside.is_torn = true;
            let why = format!("status {status}, and it cannot be set aside: {why}");
            self.post_failed(link, post, &why);
            self.posts.want_pump(link);
            return;
        }
        if let Some(found) = self.posts.links.get_mut(&link) {
            let name = &found.target.name;
            log::warn!("analyzer {name}: a packet was refused (status {status}) and set aside");
            self.engine.counters.count(Reason::RefusedByAnalyzer);
        }
        self.post_through(link, post, Fate::Refused);
        self.posts.want_pump(link);
    }
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
