//! TLS for shards.
//!
//! ```text
//! session.rs      one connection: bytes in, bytes out; rustls does the protocol
//! record.rs       where a record ends
//! records.rs      records of TLS 1.3 behind the handshake: sealed and opened
//! wire.rs         bytes on their way out
//! server.rs       what a port serves, read from files; tickets.rs: keys of tickets that several distributors share
//! pem.rs          certificates and keys out of files
//! trust.rs        which clients a port lets in; revoked.rs: lists of revoked certificates
//! client.rs       what a client shows and whom it trusts, read from files; link.rs: how a distributor begins with a server
//! stream.rs       TLS around a socket, for programs that are no shards
//! certificate.rs  whom a certificate names, until when it is valid
//! examine.rs      what will be wrong with certificates soon
//! names.rs        who is let in
//! key_log.rs      secrets of connections, for who looks for faults
//! failure.rs      why a connection came to nothing
//! ```
//!
//! But for `stream.rs` nothing here does I/O on connections: `src/runtime/secured` moves the bytes of shards. Files are
//! read when settings are read, or when they have changed.

mod certificate;
mod client;
mod examine;
mod failure;
mod file;
mod fingerprint;
mod key_log;
mod link;
mod names;
mod pem;
mod record;
mod records;
mod revoked;
mod server;
mod session;
mod stream;
mod tickets;
mod trust;
mod wire;

pub use certificate::{expiry, Facts, Peer};
pub use client::{server_name, ClientFiles, Connector};
pub use examine::{expiring, troubles};
pub use failure::{Failure, FailureKind};
pub use file::read_regular;
pub use fingerprint::Fingerprint;
pub use key_log::KeyLogger;
pub use link::{read_again, LinkCertificate, LinksRead, SecuredLink};
pub use names::{Allowed, AllowedNames, NotAllowed, NAMES_MAX};
pub use pem::{check_pair, exposed_key, Unusable};
pub use record::{begins_tls, record_bytes, whole_records, RECORD_BYTES_MAX};
pub use records::Plain;
pub use server::{ClientCertificates, MinVersion, Served, ServerFiles, ServerPort};
pub use session::{Session, CARRIED_BYTES_MAX};
pub use stream::{timed_out, Stream};
pub use wire::Wire;
