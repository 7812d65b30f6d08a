//! `_bulk` of Elasticsearch and OpenSearch.
//!
//! ```text
//! {"create":{"_id":"<identity>"}}\n {"message":...}\n  ...     `create`: the one operation that data streams take
//!
//! {"errors":false,"items":[...                                 all are in; items are not read
//! {"errors":true,"items":[{"create":{"status":201}},
//!                         {"create":{"status":409,...}},       it is in already: by that id
//!                         {"create":{"status":429,...}},       not now: it is sent again, it alone
//!                         {"create":{"status":400,"error":{"type":"...","reason":"..."}}}]}
//! ```
//!
//! The id is the message's identity: a message that comes twice, over whatever analyzer, is one document.

use weir_source::render::Context;

use super::scan::{Event, Scanner};
use super::{object, Message, Moment, RequestOptions, Run, Verdict};

/// An item had no status.
const NO_STATUS: u16 = 0;

/// Begins a message, up to its id.
pub(super) fn open(out: &mut Vec<u8>, options: &RequestOptions) {
    out.extend_from_slice(match options.has_ids {
        true => b"{\"create\":{\"_id\":\"",
        false => b"{\"create\":{",
    });
}

/// What follows.
pub(super) fn write(
    message: &Message<'_>,
    at: &Moment,
    options: &RequestOptions,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(match options.has_ids {
        true => b"\"}}\n",
        false => b"}}\n",
    });
    object::write_timed(message, at, context, out);
    out.push(b'\n');
}

/// Whether an item with this status is in.
pub(super) fn is_done(status: u16) -> bool {
    matches!(status, 200..=299 | 409)
}

/// Which key of the answer comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Other,
    Errors,
    Items,
    Status,
    Error,
    Reason,
}

/// Reads an answer as it comes: what is kept is a status for each run of items, of no more than were sent.
#[derive(Debug)]
pub struct BulkReply {
    scanner: Scanner,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    key: Key,
    errors: Option<bool>,
    /// So many were sent.
    messages: u64,
    /// Within the array of items.
    in_items: bool,
    status: u16,
    runs: Vec<Run>,
    items: u64,
    /// What was said of the first item that is not in.
    error: String,
    words: Vec<String>,
    is_whole: bool,
}

impl BulkReply {
    /// Of a request with so many messages.
    pub fn new(messages: u64) -> BulkReply {
        BulkReply {
            scanner: Scanner::default(),
            seen: Seen {
                messages,
                ..Seen::default()
            },
        }
    }

    /// Takes the next bytes. Behind `"errors":false` nothing is looked at.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.seen.errors == Some(false) || self.seen.items > self.seen.messages {
            return;
        }
        let seen = &mut self.seen;
        self.scanner
            .feed(bytes, |event, depth| seen.take(event, depth));
    }

    /// The body has ended.
    pub(super) fn end(self) -> Verdict {
        let BulkReply { scanner, seen } = self;
        match seen.errors {
            Some(false) => return Verdict::Taken,
            Some(true) => {}
            None => return Verdict::Unreadable("it does not say \"errors\"".to_owned()),
        }
        let messages = seen.messages;
        if seen.items > messages {
            return Verdict::Unreadable(format!("more items than the {messages} that were sent"));
        }
        if scanner.is_bad() || scanner.depth() != 0 || !seen.is_whole {
            return Verdict::Unreadable("its JSON does not end".to_owned());
        }
        if seen.items != messages {
            let items = seen.items;
            return Verdict::Unreadable(format!("{items} items, where {messages} were sent"));
        }
        if seen.runs.iter().any(|run| run.status == NO_STATUS) {
            return Verdict::Unreadable("an item has no status".to_owned());
        }
        match seen.runs.iter().all(|run| is_done(run.status)) {
            true => Verdict::Taken,
            false => Verdict::Items(seen.runs, seen.error),
        }
    }
}

impl Seen {
    fn take(&mut self, event: Event<'_>, depth: u32) -> bool {
        let key = self.key;
        match (event, depth) {
            (Event::Key(word), 1) => {
                self.key = match word {
                    b"errors" => Key::Errors,
                    b"items" => Key::Items,
                    _ => Key::Other,
                }
            }
            (Event::Bare(word), 1) if key == Key::Errors => {
                self.errors = Some(word != b"false");
                return word != b"false";
            }
            (Event::Open, 2) => self.in_items = key == Key::Items,
            (Event::Open, 3) if self.in_items => {
                self.status = NO_STATUS;
                self.words.clear();
            }
            (Event::Key(word), 4 | 5) if self.in_items => {
                self.key = match (word, depth) {
                    (b"status", 4) => Key::Status,
                    (b"error", 4) => Key::Error,
                    (b"type" | b"reason", 5) => Key::Reason,
                    _ => Key::Other,
                }
            }
            (Event::Bare(word), 4) if self.in_items && key == Key::Status => {
                let text = std::str::from_utf8(word).ok();
                self.status = text.and_then(|text| text.parse().ok()).unwrap_or(NO_STATUS);
            }
            (Event::Text(word), 4) if self.in_items && key == Key::Error => self.say(word),
            (Event::Text(word), 5) if self.in_items && key == Key::Reason => self.say(word),
            (Event::Close, 2) if self.in_items => return self.item(),
            (Event::Bare(_) | Event::Text(_), 2) if self.in_items => {
                self.status = NO_STATUS;
                return self.item();
            }
            (Event::Close, 1) => self.in_items = false,
            (Event::Close, 0) => self.is_whole = true,
            _ => {}
        }
        true
    }

    fn say(&mut self, word: &[u8]) {
        if self.error.is_empty() && self.words.len() < 2 {
            self.words.push(String::from_utf8_lossy(word).into_owned());
        }
    }

    /// An item has ended. False: there are too many.
    fn item(&mut self) -> bool {
        self.items += 1;
        if self.items > self.messages {
            return false;
        }
        if self.error.is_empty() && !is_done(self.status) {
            self.error = super::shown(&self.words.join(": "));
        }
        match self.runs.last_mut() {
            Some(last) if last.status == self.status => last.items += 1,
            _ => self.runs.push(Run {
                items: 1,
                status: self.status,
            }),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str, messages: u64) -> Verdict {
        let mut whole = BulkReply::new(messages);
        whole.feed(answer.as_bytes());
        let verdict = whole.end();
        for cut in 0..answer.len() {
            let mut reply = BulkReply::new(messages);
            let (one, other) = answer.as_bytes().split_at(cut);
            reply.feed(one);
            reply.feed(other);
            assert_eq!(reply.end(), verdict, "cut at {cut}");
        }
        verdict
    }

    #[test]
    fn without_errors_items_are_not_read() {
        assert_eq!(
            read(r#"{"took":3,"errors":false,"items":[}}"#, 7),
            Verdict::Taken
        );
        assert_eq!(read(r#"{"errors" : false}"#, 7), Verdict::Taken);
    }

    #[test]
    fn items_have_their_own_status() {
        let answer = r#"{"took":3,"errors":true,"items":[
            {"create":{"_index":"x","status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"r"}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full","caused_by":{"type":"no","status":1}}}},
            {"create":{"_id":"a","error":{"type":"document_parsing_exception","reason":"[1:2]"},"status":400}}
        ]}"#;
        let run = |items, status| Run { items, status };
        assert_eq!(
            read(answer, 4),
            Verdict::Items(
                vec![run(1, 201), run(1, 409), run(1, 429), run(1, 400)],
                "\"es_rejected_execution_exception: full\"".to_owned()
            )
        );
        let twice =
            r#"{"errors":true,"items":[{"create":{"status":409}},{"create":{"status":409}}]}"#;
        assert_eq!(read(twice, 2), Verdict::Taken);
        let old = r#"{"errors":true,"items":[{"create":{"status":503,"error":"Unavailable"}}]}"#;
        assert_eq!(
            read(old, 1),
            Verdict::Items(vec![run(1, 503)], "\"Unavailable\"".to_owned())
        );
    }

    #[test]
    fn what_does_not_fit_is_not_believed() {
        for (bad, why) in [
            ("", "\"errors\""),
            ("OK", "\"errors\""),
            (r#"{"items":[]}"#, "\"errors\""),
            (r#"{"items":[{"errors":false}]}"#, "\"errors\""),
            (
                r#"{"errors":true,"items":[{"create":{"status":201}}"#,
                "end",
            ),
            (
                r#"{"errors":true,"items":[{"create":{"status":201}}]]"#,
                "end",
            ),
            (r#"{"errors":true,"items":[]}"#, "0 items"),
            (r#"{"errors":true,"items":[{},{},{}"#, "more items"),
            (r#"{"errors":true,"items":[{"create":{}}]}"#, "no status"),
            (r#"{"errors":true,"items":[7]}"#, "no status"),
            (
                r#"{"errors":true,"items":[{"create":{"status":"x"}}]}"#,
                "no status",
            ),
            (
                r#"{"errors":true,"items":[{"create":{"status":-1}}]}"#,
                "no status",
            ),
        ] {
            match read(bad, 1) {
                Verdict::Unreadable(said) => assert!(said.contains(why), "{bad}: {said}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }
}
