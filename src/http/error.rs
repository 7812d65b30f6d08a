//! Why a request or a response cannot be read.

use std::fmt;

/// Bytes of a peer's text that an error repeats.
const QUOTED_BYTES_MAX: usize = 60;

/// A request that is refused before anything of its body is understood. The caller answers `status`,
/// counts `error`, and closes the connection if `close` says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// Status to answer with.
    pub status: u16,
    /// Class: the metric label, stable.
    pub error: &'static str,
    /// For people: what, its value, what is allowed.
    pub detail: String,
    /// Nothing tells where the next request begins, or its body was not read: close after the answer.
    pub close: bool,
}

impl HttpError {
    /// An error after which the stream cannot be followed.
    pub(super) fn fatal(status: u16, error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            error,
            detail: detail.into(),
            close: true,
        }
    }

    /// An error of a request that was read to its end.
    pub(super) fn request(status: u16, error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            close: false,
            ..Self::fatal(status, error, detail)
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.error, self.detail)
    }
}

impl std::error::Error for HttpError {}

/// A peer's bytes for an error: printable, quoted, cut.
pub fn quoted(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(QUOTED_BYTES_MAX)];
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}{more}\"", shown.escape_ascii())
}
