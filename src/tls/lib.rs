//! TLS for shards.
//!
//! ```text
//! session.rs      one connection: bytes in, bytes out; rustls does the protocol
//! record.rs       where a record ends
//! wire.rs         bytes on their way out
//! server.rs       what a port serves, read from files; link.rs: how TLS is begun with a server
//! certificate.rs  whom a certificate names, until when it is valid
//! names.rs        who is let in
//! failure.rs      why a connection came to nothing
//! ```
//!
//! Nothing here does I/O on connections: `src/runtime/secured.rs` moves the bytes. Files are read in
//! `server.rs` alone, when settings are read.

mod certificate;
mod failure;
mod fingerprint;
mod link;
mod names;
mod record;
mod server;
mod session;
mod wire;

pub use certificate::{Facts, Peer};
pub use failure::{Failure, FailureKind};
pub use fingerprint::Fingerprint;
pub use link::SecuredLink;
pub use names::{Allowed, AllowedNames, NotAllowed, NAMES_MAX};
pub use record::{begins_tls, record_bytes, whole_records, RECORD_BYTES_MAX};
pub use server::{ClientCertificates, MinVersion, Served, ServerFiles, ServerPort, Unusable};
pub use session::{Session, CARRIED_BYTES_MAX};
pub use wire::Wire;
