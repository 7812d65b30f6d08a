//! Sessions in a page of `docs/`: blocks of lines that say what a sender sends and what becomes of it.
//!
//! ```text
//! C bytes          the sender sends them
//! = severity text  a message
//! S bytes          the sender is told them
//! ! why            its connection is closed
//! E                it ends
//! ```

/// The sessions of a page: the lines of its blocks, divided at empty ones.
pub fn sessions(page: &str) -> Vec<Vec<&str>> {
    let mut all = vec![Vec::new()];
    let mut is_inside = false;
    for line in page.lines() {
        match line {
            "```session" => is_inside = true,
            "```" if is_inside => {
                is_inside = false;
                all.push(Vec::new());
            }
            "" if is_inside => all.push(Vec::new()),
            _ if is_inside && !line.starts_with('#') => all.last_mut().expect("one").push(line),
            _ => {}
        }
    }
    all.retain(|session| !session.is_empty());
    all
}

/// `\n` and the like as the bytes that they are.
pub fn text(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let (byte, taken) = match (byte, behind) {
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'x', a, b, ..]) => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                (u8::from_str_radix(digits, 16).expect("hex"), 4)
            }
            _ => (byte, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}

/// Bytes in hex, with spaces between.
pub fn hex(line: &str) -> Vec<u8> {
    let byte = |word| u8::from_str_radix(word, 16).expect("hex");
    line.split_whitespace().map(byte).collect()
}
