//! Syslog over TCP (RFC 6587): lines that end with LF, and counted messages.

/// Before the text of each message: user.info, RFC 5424.
pub const HEADER: &str = "<14>1 2026-01-01T00:00:00Z host app - - - ";

/// Appends a message that ends with LF.
pub fn put_line(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(message);
    out.push(b'\n');
}

/// Appends a message behind its length.
pub fn put_counted(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(format!("{} ", message.len()).as_bytes());
    out.extend_from_slice(message);
}
