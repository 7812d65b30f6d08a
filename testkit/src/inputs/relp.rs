//! RELP: `TXNR SP COMMAND SP LEN [SP DATA] LF`, as librelp's clients send it.

/// Largest transaction number; 1 follows.
const TXNR_MAX: u32 = 999_999_999;

/// The number after `txnr`.
pub fn next(txnr: u32) -> u32 {
    txnr % TXNR_MAX + 1
}

/// Appends a frame.
pub fn put_frame(out: &mut Vec<u8>, txnr: u32, command: &str, data: &[u8]) {
    out.extend_from_slice(format!("{txnr} {command} {}", data.len()).as_bytes());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// The first frame of a session.
pub fn open() -> Vec<u8> {
    let mut out = Vec::new();
    let data = "relp_version=0\nrelp_software=weir-testkit,1\ncommands=syslog";
    put_frame(&mut out, 1, "open", data.as_bytes());
    out
}

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// Whose answer it is; 0: a hint.
    pub txnr: u32,
    /// `rsp` or `serverclose`.
    pub command: &'a str,
    /// Begins with a status, such as `200 OK`.
    pub data: &'a str,
    /// Bytes of the frame.
    pub used: usize,
}

/// The frame at the start of `bytes`; `None` while part of it is to come.
///
/// # Errors
/// It is none.
pub fn read(bytes: &[u8]) -> Result<Option<Said<'_>>, String> {
    let shown = || format!("no RELP: {:?}", String::from_utf8_lossy(bytes));
    let mut at = 0;
    let mut words = [""; 3];
    for word in &mut words {
        let rest = &bytes[at..];
        let end = rest.iter().position(|byte| *byte == b' ' || *byte == b'\n');
        let Some(end) = end else {
            return match rest.len() < 32 {
                true => Ok(None),
                false => Err(shown()),
            };
        };
        *word = std::str::from_utf8(&rest[..end]).map_err(|_| shown())?;
        at += end + 1;
    }
    let txnr = words[0].parse().map_err(|_| shown())?;
    let len: usize = words[2].parse().map_err(|_| shown())?;
    if len == 0 {
        return Ok(Some(Said {
            txnr,
            command: words[1],
            data: "",
            used: at,
        }));
    }
    let Some(data) = bytes.get(at..at + len + 1) else {
        return Ok(None);
    };
    let (data, end) = data.split_at(len);
    if end != b"\n" {
        return Err(shown());
    }
    Ok(Some(Said {
        txnr,
        command: words[1],
        data: std::str::from_utf8(data).map_err(|_| shown())?,
        used: at + len + 1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_the_protocol_says() {
        let mut frame = Vec::new();
        put_frame(&mut frame, 2, "syslog", b"<13>hello");
        assert_eq!(frame, b"2 syslog 9 <13>hello\n");
        assert_eq!((next(1), next(TXNR_MAX)), (2, 1));
    }

    #[test]
    fn answers_are_read_at_any_cut() {
        let stream = b"2 rsp 6 200 OK\n7 rsp 0\n0 serverclose 0\n";
        for cut in 0..15 {
            assert_eq!(read(&stream[..cut]), Ok(None), "{cut}");
        }
        let said =
            |bytes| read(bytes).map(|said| said.map(|it| (it.txnr, it.command, it.data, it.used)));
        assert_eq!(said(stream), Ok(Some((2, "rsp", "200 OK", 15))));
        assert_eq!(said(&stream[15..]), Ok(Some((7, "rsp", "", 8))));
        assert_eq!(said(&stream[23..]), Ok(Some((0, "serverclose", "", 16))));
        assert!(read(b"2 rsp 6 200 OK!").is_err());
        assert!(read(b"x rsp 0\n").is_err());
    }
}
