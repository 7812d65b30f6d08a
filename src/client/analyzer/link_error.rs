//! Why a connection of a link broke.

use super::group::NotAdmitted;
use std::fmt;
use std::io;
use weir_protocol::native::NativeError;
use weir_protocol::text::Brief;

/// Why a connection broke. All but `Record` are answered by connecting again.
#[derive(Debug)]
pub enum LinkError {
    /// The socket.
    Io(io::Error),
    /// What came is not the protocol.
    Protocol(NativeError),
    /// The distributor gives a reason.
    Refused(String),
    /// It is not kept.
    NotAdmitted(NotAdmitted),
    /// What answers is no distributor, or not at this port.
    Stranger(String),
    /// Records cannot be written, so nothing may be ACKed: the analyzer ends.
    Record(io::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Protocol(error) => write!(f, "the distributor broke the protocol: {error}"),
            Self::Refused(reason) => write!(f, "the distributor refused: {}", Brief(reason)),
            Self::NotAdmitted(why) => write!(f, "{why}"),
            Self::Stranger(why) => {
                write!(
                    f,
                    "what answers there is no distributor's analyzers' port: {why}"
                )
            }
            Self::Record(error) => write!(f, "cannot write records: {error}"),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<NativeError> for LinkError {
    fn from(error: NativeError) -> Self {
        Self::Protocol(error)
    }
}

/// A native link was not welcomed: distributors that know no such links do so.
pub fn reference(why: &str) -> LinkError {
    let hint =
        "if that is the analyzers' port of a distributor other than Weir, try --dialect compact";
    LinkError::Io(io::Error::other(format!("{why}; {hint}")))
}
