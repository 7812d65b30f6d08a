//! What one request may cost.

/// Most headers that any limit can allow: they are read into an array on the stack.
pub(super) const HEADERS_MAX: usize = 64;

/// All in bytes but `headers_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers with their line ends. 431 beyond.
    pub head_bytes: usize,
    /// Request line without its line end. 414 beyond.
    pub request_line_bytes: usize,
    /// Headers, at most 64. 431 beyond.
    pub headers_max: usize,
    /// Body as received, without the framing of chunks. 413 beyond.
    pub body_bytes: usize,
    /// Body after inflation. 413 beyond.
    pub inflated_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 << 10,
            request_line_bytes: 8 << 10,
            headers_max: HEADERS_MAX,
            body_bytes: 1 << 20,
            inflated_bytes: 8 << 20,
        }
    }
}
