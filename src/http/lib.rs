//! HTTP/1.1 and JSON packets: no I/O, no clock, no threads.
//!
//! ```text
//!   bytes --Reader--> Request --parse_packet---> Packet --write_frames--> frames   to a TCP analyzer
//!                         |     parse_ndjson        |
//!   bytes <--respond------'                         '-----write_record--> record   to an HTTP analyzer
//!
//!   raw frames --PacketBuilder--> one packet        POST body
//!   record --Record::write_frames--> frames         an HTTP analyzer died, a TCP analyzer takes over
//!   bytes --ResponseReader--> Answer                what was said to a POST, to a health check, to `weir ctl`
//! ```
//!
//! Framing of requests is strict: whatever two implementations could read in two ways is refused and
//! the connection closed. A request that lies whole in the received bytes is not copied. All memory is
//! bounded by [`Limits`] and [`PacketLimits`].
#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

mod answer;
mod ask;
mod builder;
mod chunked;
mod error;
mod forwarded;
mod head;
mod ids;
mod inspect;
mod json;
mod level;
mod limits;
mod ndjson;
mod packet;
mod query;
mod reader;
mod refusal;
mod render;
mod respond;
mod surrogates;
mod time;

pub use answer::{Answer, AnswerHead, ResponseReader, RetryAfter};
pub use ask::Ask;
pub use builder::{is_piece, BuiltPacket, PacketBuilder, TCP_EMITTER};
pub use error::{quoted, HttpError};
pub use forwarded::{forwarded, x_forwarded_for, Hop};
pub use ids::{uuid_text, Ids, SeededIds, UUID_BYTES};
pub use level::{level_of, severity_of};
pub use limits::Limits;
pub use ndjson::parse_ndjson;
pub use packet::{parse_packet, Packet, PacketLimits};
pub use query::{parameter, parameters, percent_decoded, percent_encoded};
pub use reader::{Reader, Request, Step, CONTINUE};
pub use refusal::{body_kind, BodyKind, PacketError, Position, INVALID_BODY};
pub use respond::{reason, respond, respond_head, HeadWriter};
pub use surrogates::without_lone_surrogates;
pub use time::{http_date, DATE_BYTES};
pub use weir_protocol::{iso8601, TIMESTAMP_BYTES};
