//! Splunk's HTTP event collector.
//!
//! ```text
//! {"time":1700000000.123,"event":"text","fields":{"severity":"info"}} {"time":...     one behind the other
//!
//! {"text":"Success","code":0,"ackId":7}       with indexer acknowledgement: it is in when number 7 is
//! {"acks":[7,8]}  ->  {"acks":{"7":true,"8":false}}
//! ```

use weir_protocol::Form;

use super::{decimal, level_of, object, Message, Moment, RequestOptions, Short, Verdict};
use weir_source::render::{write_string, write_text, Context};

/// Appends a message as an event. An empty one would make Splunk refuse the whole request.
pub(super) fn write(
    message: &Message<'_>,
    at: &Moment,
    options: &RequestOptions,
    context: &mut Context,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"time\":");
    decimal(out, at.unix_ms / 1000);
    out.push(b'.');
    let ms = at.unix_ms % 1000;
    for digit in [ms / 100, ms / 10 % 10, ms % 10] {
        decimal(out, digit);
    }
    for (key, value) in [
        ("index", &options.index),
        ("sourcetype", &options.sourcetype),
    ] {
        if !value.is_empty() {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            write_string(value, out);
        }
    }
    out.extend_from_slice(b",\"event\":");
    let is_blank = message.payload.trim_ascii().is_empty();
    let is_text = message.form == Form::Raw && !is_blank;
    if !is_text || !write_text(message.payload, out) {
        object::write_object(message, at, context, out);
    }
    out.extend_from_slice(b",\"fields\":{\"severity\":\"");
    out.extend_from_slice(level_of(message.severity).as_bytes());
    out.extend_from_slice(b"\"}}");
}

/// Appends the question which of these numbers are acked.
pub fn write_ack_poll(ids: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"acks\":[");
    for (at, id) in ids.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        decimal(out, id);
    }
    out.extend_from_slice(b"]}");
}

/// Reads the number of an ack.
#[derive(Debug, Default)]
pub struct AckReply(pub(super) Short);

impl AckReply {
    pub(super) fn end(self) -> Verdict {
        let id = self.0.whole().ok().and_then(|body| {
            let value: serde_json::Value = serde_json::from_slice(body).ok()?;
            value["ackId"].as_u64()
        });
        match id {
            Some(id) => Verdict::Later(id),
            None => Verdict::Misfit(
                "it answers without an ackId that is a number: acks=indexer needs a token with indexer acknowledgement"
                    .to_owned(),
            ),
        }
    }
}

/// Reads which numbers are acked.
#[derive(Debug, Default)]
pub struct AckPollReply(pub(super) Short);

impl AckPollReply {
    pub(super) fn end(self) -> Verdict {
        let acked = self.0.whole().and_then(|body| {
            let value: serde_json::Value =
                serde_json::from_slice(body).map_err(|error| format!("its body: {error}"))?;
            let acks = value["acks"]
                .as_object()
                .ok_or("it does not say \"acks\"")?;
            let acked = acks.iter().filter(|(_, is)| is.as_bool() == Some(true));
            Ok(acked.filter_map(|(id, _)| id.parse().ok()).collect())
        });
        match acked {
            Ok(acked) => Verdict::Acked(acked),
            Err(why) => Verdict::Unreadable(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_acks_are_read() {
        let ack = |body: &str| {
            let mut reply = AckReply::default();
            reply.0.feed(body.as_bytes());
            reply.end()
        };
        assert_eq!(
            ack(r#"{"text":"Success","code":0,"ackId":7}"#),
            Verdict::Later(7)
        );
        for none in [
            r#"{"text":"Success","code":0}"#,
            r#"{"ackId":-1}"#,
            "",
            "[7]",
        ] {
            assert!(matches!(ack(none), Verdict::Misfit(_)), "{none}");
        }
        let mut question = Vec::new();
        write_ack_poll([7, 18].into_iter(), &mut question);
        assert_eq!(question, br#"{"acks":[7,18]}"#);
        let poll = |body: &str| {
            let mut reply = AckPollReply::default();
            reply.0.feed(body.as_bytes());
            reply.end()
        };
        assert_eq!(
            poll(r#"{"acks":{"7":true,"8":false,"9":1,"x":true}}"#),
            Verdict::Acked(vec![7])
        );
        for none in ["{}", "", r#"{"acks":[7]}"#] {
            assert!(matches!(poll(none), Verdict::Unreadable(_)), "{none}");
        }
    }
}
