//! What other protocols say first.

use super::*;

/// Who greets in another protocol waits for an answer: it has one when its line has ended.
#[test]
fn greetings_of_other_protocols_are_refused_by_name_when_their_line_ends() {
    for (greeting, looks) in [
        ("SSH-2.0-x\r\n", "looks like SSH"),
        ("SSH-2.0-x\n", "looks like SSH"),
        ("stats\r\n", "looks like memcached"),
        ("stats\n", "looks like memcached"),
        ("EHLO x\r\n", "looks like SMTP"),
        ("220 mail.example.org ESMTP Postfix\r\n", "looks like SMTP"),
        ("USER anonymous\r\n", "looks like FTP or POP3"),
        ("PING\r\n", "looks like Redis"),
        ("*1\r\n", "looks like Redis"),
        ("STOMP\n", "looks like STOMP"),
        ("HTTP/1.1 200 OK\r\n", "looks like an HTTP answer"),
        ("OPTIONS rtsp://h/x RTSP/1.0\r\n", "looks like RTSP"),
        ("OPTIONS sip:nm SIP/2.0\r\n", "looks like SIP"),
        // Not known: the line is repeated.
        ("hello\r\n", "\"hello\" is not `METHOD /path HTTP/1.1`"),
        ("good morning to you\r\n", "version \"you\"; allowed: "),
        ("GET /\r\n", "\"GET /\" is not `METHOD /path HTTP/1.1`"),
    ] {
        let by_byte = read(greeting.as_bytes().chunks(1), &Limits::default());
        let (seen, _) = whole(greeting.as_bytes());
        assert_eq!(seen, by_byte.0, "{greeting:?}");
        let [Seen::Refused(error)] = &seen[..] else {
            panic!("{greeting:?} waits: {seen:?}");
        };
        assert!(
            error.close && error.detail.contains(looks),
            "{greeting:?}: {error}"
        );
        // Not before: what is no line yet may become a request.
        let waits = whole(greeting.trim_end().as_bytes());
        assert_eq!(waits, (vec![], true), "{greeting:?}");
    }
    for start in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
    ] {
        assert_eq!(whole(start.as_bytes()), (vec![], true), "{start:?}");
    }
}
