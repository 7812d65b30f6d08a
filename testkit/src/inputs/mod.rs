//! What other programs send, written from the texts of the protocols and not from the product's sources: encoders of
//! units, readers of answers, and a sender that behaves as their clients do.
//!
//! ```text
//! syslog       LF, octet counting                     no answers
//! forward      PackedForward chunks                   {"ack": id}
//! lumberjack   windows of JSON                        A <sequence>, 0 as a sign of life
//! relp         open, syslog, close                    rsp
//! marked       the number in a text message
//! sender       a connection with its deadline, and its own record of what was acked
//! ```

pub mod forward;
pub mod lumberjack;
pub mod marked;
pub mod relp;
pub mod sender;
pub mod syslog;

pub use sender::{Client, Record, Sender, Speaks};
