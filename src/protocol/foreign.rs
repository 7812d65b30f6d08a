//! What else speaks there? Names the protocol of a peer that is at the wrong port.
//!
//! ```text
//!   first bytes of a stream, as many as there are --> recognize --> Some(Foreign::Tls), ...
//!                                                               `-> None: not known
//! ```
//!
//! For a port whose own reading has failed, or that must guess: plausible weights other than 0 are
//! never named, see the tests. An answer may change with more bytes (`CONNECT` of HTTP or of STOMP?).

use super::native::{EMITTER_MAGIC, MAGIC};
use std::fmt;

/// Bytes of a stream that are looked at; more do not change the answer.
pub const LOOK_BYTES: usize = 256;

/// A protocol that is not spoken at the port where it was heard. HTTP counts as one at all ports but
/// its own, and so does Weir's own HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is what its name says
pub enum Foreign {
    Http,
    Http2,
    HttpAnswer,
    Rtsp,
    Sip,
    Tls,
    Proxy,
    Ssh,
    Syslog,
    Smtp,
    Ftp,
    Imap,
    Redis,
    Memcached,
    ZooKeeper,
    Nats,
    Stomp,
    Amqp,
    Mqtt,
    Kafka,
    Postgres,
    MySql,
    MongoDb,
    Cassandra,
    Thrift,
    Lumberjack,
    Fluentd,
    BitTorrent,
    Git,
    Rsync,
    Vnc,
    Rmi,
    Socks,
    Rdp,
    Smb,
    Ldap,
    Dns,
    Rpc,
    Telnet,
    X11,
    Json,
    Xml,
    Utf16,
    /// Nothing but CR and LF.
    EmptyLines,
    /// Nothing but zero bytes.
    Zeros,
    /// Text of no protocol that is known here.
    Text,
    /// A native link's HELLO: `weir analyzer`.
    WeirAnalyzer,
    /// The HELLO of an acked link: `weir emitter --acked`.
    WeirEmitter,
}

use Foreign::*;

/// Starts that name a protocol at once. Of two that match, the first counts.
const STARTS: &[(&[u8], Foreign)] = &[
    (&MAGIC, WeirAnalyzer),
    (&EMITTER_MAGIC, WeirEmitter),
    (b"PRI * HTTP/2", Http2),
    (b"HTTP/", HttpAnswer),
    (b"RTSP/", Rtsp),
    (b"SIP/", Sip),
    (b"\x16\x03\x00", Tls),
    (b"\x16\x03\x01", Tls),
    (b"\x16\x03\x02", Tls),
    (b"\x16\x03\x03", Tls),
    (b"\x16\x03\x04", Tls),
    (b"\x15\x03\x01\x00", Tls),
    (b"\x15\x03\x03\x00", Tls),
    (b"PROXY", Proxy),
    (b"\r\n\r\n\0", Proxy),
    (b"SSH-", Ssh),
    (b"EHLO", Smtp),
    (b"HELO", Smtp),
    (b"LHLO", Smtp),
    (b"ehlo ", Smtp),
    (b"helo ", Smtp),
    (b"HELP", Text),
    (b"MAIL FROM", Smtp),
    (b"220 ", Smtp),
    (b"220-", Smtp),
    (b"USER ", Ftp),
    (b"PASS ", Ftp),
    (b"QUIT\r", Ftp),
    (b"CAPA\r", Imap),
    (b"* OK", Imap),
    (b"+OK ", Imap),
    (b"PING", Redis),
    (b"INFO\r", Redis),
    (b"AUTH ", Redis),
    (b"ECHO ", Redis),
    (b"+PONG", Redis),
    (b"-ERR", Redis),
    (b"-NOAUTH", Redis),
    (b"stats", Memcached),
    (b"version\r", Memcached),
    (b"version\n", Memcached),
    (b"verbosity", Memcached),
    (b"flush_all", Memcached),
    (b"gets ", Memcached),
    (b"get ", Memcached),
    (b"set ", Memcached),
    (b"add ", Memcached),
    (b"replace ", Memcached),
    (b"append ", Memcached),
    (b"incr ", Memcached),
    (b"decr ", Memcached),
    (b"mn\r\n", Memcached),
    (b"ruok", ZooKeeper),
    (b"mntr", ZooKeeper),
    (b"srvr", ZooKeeper),
    (b"INFO {", Nats),
    (b"CONNECT {", Nats),
    (b"STOMP\n", Stomp),
    (b"STOMP\r", Stomp),
    (b"CONNECT\n", Stomp),
    (b"CONNECT\r", Stomp),
    (b"AMQP", Amqp),
    (b"\x13BitTorrent", BitTorrent),
    (b"@RSYNCD:", Rsync),
    (b"RFB 00", Vnc),
    (b"JRMI", Rmi),
    (b"t3 ", Rmi),
    (b"\x05\x01\x00", Socks),
    (b"\x05\x02\x00", Socks),
    (b"\x03\x00\x00", Rdp),
    (b"\xff\xfb", Telnet),
    (b"\xff\xfc", Telnet),
    (b"\xff\xfd", Telnet),
    (b"\xff\xfe\xff", Telnet),
    (b"l\0\x0b\0", X11),
    (b"B\0\0\x0b", X11),
    (b"\xff\xfe", Utf16),
    (b"\xfe\xff", Utf16),
    (b"{\0", Utf16),
    (b"1W\0\0", Lumberjack),
    (b"2W\0\0", Lumberjack),
    (b"\x80\x01\x00", Thrift),
    (b"\x82\x21\x00", Thrift),
    (b"\x80\x00\x00\x28", Rpc),
    (b"<?xml", Xml),
    (b"<stream", Xml),
];

/// Methods of HTTP and its relatives, for a request whose first line is not whole yet.
#[rustfmt::skip]
const METHODS: [&str; 34] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND", "PROPPATCH", "MKCOL",
    "MKCALENDAR", "MKACTIVITY", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "REPORT", "CHECKOUT", "MERGE", "BIND", "ACL",
    "PURGE", "LINK", "UNLINK", "SUBSCRIBE", "UNSUBSCRIBE", "NOTIFY", "M-SEARCH", "QUERY", "BAN", "SOURCE",
];

impl Foreign {
    /// Metric label and log word.
    pub fn as_str(self) -> &'static str {
        match self {
            Http => "http",
            Http2 => "http2",
            HttpAnswer => "http_answer",
            Rtsp => "rtsp",
            Sip => "sip",
            Tls => "tls",
            Proxy => "proxy",
            Ssh => "ssh",
            Syslog => "syslog",
            Smtp => "smtp",
            Ftp => "ftp",
            Imap => "imap",
            Redis => "redis",
            Memcached => "memcached",
            ZooKeeper => "zookeeper",
            Nats => "nats",
            Stomp => "stomp",
            Amqp => "amqp",
            Mqtt => "mqtt",
            Kafka => "kafka",
            Postgres => "postgres",
            MySql => "mysql",
            MongoDb => "mongodb",
            Cassandra => "cassandra",
            Thrift => "thrift",
            Lumberjack => "lumberjack",
            Fluentd => "fluentd",
            BitTorrent => "bittorrent",
            Git => "git",
            Rsync => "rsync",
            Vnc => "vnc",
            Rmi => "rmi",
            Socks => "socks",
            Rdp => "rdp",
            Smb => "smb",
            Ldap => "ldap",
            Dns => "dns",
            Rpc => "rpc",
            Telnet => "telnet",
            X11 => "x11",
            Json => "json",
            Xml => "xml",
            Utf16 => "utf16",
            EmptyLines => "empty_lines",
            Zeros => "zeros",
            Text => "text",
            WeirAnalyzer => "weir_analyzer",
            WeirEmitter => "weir_emitter",
        }
    }

    /// What the peer's operator may do about it; empty where there is nothing to say.
    pub fn hint(self) -> &'static str {
        match self {
            Http | Http2 | HttpAnswer => "HTTP has a port of its own (--http)",
            Tls => "TLS is not spoken at this port (--emitters-tls, --analyzers-tls, --http-tls, tls of an input)",
            Proxy => {
                "PROXY headers are not spoken here: switch them off (send-proxy, proxy_protocol)"
            }
            WeirAnalyzer => "analyzers have a port of their own (--analyzers)",
            WeirEmitter => "emitters have a port of their own (--emitters)",
            _ => "",
        }
    }

    /// "this looks like TLS; TLS is not spoken at this port ...".
    pub fn sentence(self) -> String {
        match self.hint() {
            "" => format!("this looks like {self}"),
            hint => format!("this looks like {self}; {hint}"),
        }
    }
}

/// "this looks like TLS; TLS is not spoken at this port ...": for a log line or an answer. Empty if `first` is
/// not recognized.
pub fn sentence(first: &[u8]) -> String {
    recognize(first).map_or_else(String::new, Foreign::sentence)
}

/// With its article, to follow "looks like".
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Http => "an HTTP request",
            Http2 => "an HTTP/2 request",
            HttpAnswer => "an HTTP answer",
            Rtsp => "RTSP",
            Sip => "SIP",
            Tls => "TLS",
            Proxy => "a PROXY header",
            Ssh => "SSH",
            Syslog => "syslog",
            Smtp => "SMTP",
            Ftp => "FTP or POP3",
            Imap => "IMAP or POP3",
            Redis => "Redis (RESP)",
            Memcached => "memcached",
            ZooKeeper => "ZooKeeper",
            Nats => "NATS",
            Stomp => "STOMP",
            Amqp => "AMQP",
            Mqtt => "MQTT",
            Kafka => "Kafka",
            Postgres => "PostgreSQL",
            MySql => "MySQL",
            MongoDb => "MongoDB",
            Cassandra => "Cassandra (CQL)",
            Thrift => "Thrift",
            Lumberjack => "Lumberjack (Beats)",
            Fluentd => "Fluentd's forward protocol",
            BitTorrent => "BitTorrent",
            Git => "Git",
            Rsync => "rsync",
            Vnc => "VNC",
            Rmi => "Java RMI",
            Socks => "SOCKS",
            Rdp => "RDP",
            Smb => "SMB",
            Ldap => "LDAP",
            Dns => "DNS",
            Rpc => "Sun RPC",
            Telnet => "Telnet",
            X11 => "X11",
            Json => "JSON",
            Xml => "XML",
            Utf16 => "UTF-16 text",
            EmptyLines => "empty lines (CR LF)",
            Zeros => "zero bytes",
            Text => "text",
            WeirAnalyzer => "a Weir analyzer",
            WeirEmitter => "a Weir emitter that waits for ACKs",
        })
    }
}

/// The protocol whose stream starts with `first`, as far as that can be told. At most
/// [`LOOK_BYTES`] of it are read.
pub fn recognize(first: &[u8]) -> Option<Foreign> {
    let first = &first[..first.len().min(LOOK_BYTES)];
    if first.is_empty() {
        return None;
    }
    let starts = STARTS.iter().find(|(start, _)| first.starts_with(start));
    starts
        .map(|(_, foreign)| *foreign)
        .map(|foreign| {
            if foreign == Smtp {
                smtp_or_ftp(first)
            } else {
                foreign
            }
        })
        .or_else(|| request(first))
        .or_else(|| syslog(first))
        .or_else(|| resp(first))
        .or_else(|| binary(first))
        .or_else(|| text(first))
}

/// A greeting of 220 is either's.
fn smtp_or_ftp(first: &[u8]) -> Foreign {
    if contains(first, b"FTP") && !contains(first, b"SMTP") {
        Ftp
    } else {
        Smtp
    }
}

/// `METHOD target HTTP/1.1`, or its start.
fn request(first: &[u8]) -> Option<Foreign> {
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or(first);
    if !is_text(line) {
        return None;
    }
    for (version, foreign) in [(&b" HTTP/"[..], Http), (b" RTSP/", Rtsp), (b" SIP/", Sip)] {
        if contains(line, version) {
            return Some(foreign);
        }
    }
    let method = line.split(|byte| *byte == b' ').next().unwrap_or(line);
    let is_whole = method.len() < line.len();
    let is_method = METHODS.iter().any(|known| known.as_bytes() == method);
    (is_whole && is_method).then_some(Http)
}

/// `<34>...`, or `123 <34>...` where lengths are counted (RFC 6587).
fn syslog(first: &[u8]) -> Option<Foreign> {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let counted = digits(first);
    let rest = match first.get(counted) {
        Some(b' ') if (1..=6).contains(&counted) => &first[counted + 1..],
        _ => first,
    };
    let priority = rest.strip_prefix(b"<")?;
    let length = digits(priority);
    ((1..=3).contains(&length) && priority.get(length) == Some(&b'>')).then_some(Syslog)
}

/// Redis: `*1\r\n$4\r\nPING\r\n`.
fn resp(first: &[u8]) -> Option<Foreign> {
    let rest = first.strip_prefix(b"*").or(first.strip_prefix(b"$"))?;
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    (length > 0 && rest.get(length..)?.starts_with(b"\r\n")).then_some(Redis)
}

/// Protocols whose start has fields.
fn binary(first: &[u8]) -> Option<Foreign> {
    let at = |from: usize, want: &[u8]| first.get(from..from + want.len()) == Some(want);
    let word = |from: usize| first.get(from..from + 4).map(be_u32);
    if first.iter().all(|byte| *byte == 0) {
        return Some(Zeros);
    }
    if first.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
        return Some(EmptyLines);
    }
    if first[0] == 0x10 && (at(4, b"MQ") || at(2, b"\x00\x04MQ") || at(2, b"\x00\x06MQ")) {
        return Some(Mqtt);
    }
    if first[0] & 0x80 != 0 && at(2, b"\x01\x03") {
        return Some(Tls); // a hello in the form of SSL 2
    }
    if matches!(first[0], 0x80 | 0x81) && first.len() >= 24 && first[5] == 0 {
        return Some(Memcached); // binary
    }
    if at(4, b"\xffSMB") || at(4, b"\xfeSMB") {
        return Some(Smb);
    }
    if at(4, b"git-") {
        return Some(Git);
    }
    let framed = word(0).is_some_and(|length| (8..1 << 16).contains(&length));
    let ssl = at(4, b"\x04\xd2\x16\x2f") || at(4, b"\x04\xd2\x16\x30");
    if framed && (ssl || at(4, b"\0\x03\0\0")) {
        return Some(Postgres);
    }
    if at(2, b"\0\0\x0a") && matches!(first.get(5), Some(b'0'..=b'9')) {
        return Some(MySql);
    }
    if at(2, b"\0\0") && (at(12, b"\xdd\x07\0\0") || at(12, b"\xd4\x07\0\0")) {
        return Some(MongoDb);
    }
    if matches!(first[0], 3..=5) && at(1, b"\0\0\0\x05\0\0\0\0") {
        return Some(Cassandra);
    }
    if first[0] == 4 && matches!(first.get(1), Some(1 | 2)) && first.len() >= 9 {
        return Some(Socks);
    }
    if first[0] == 0x30 && (at(2, b"\x02\x01") || at(6, b"\x02\x01") || at(3, b"\x02\x01")) {
        return Some(Ldap);
    }
    if framed && (at(4, b"\x80\x01\0\x01") || at(4, b"\x82\x21")) {
        return Some(Thrift);
    }
    if framed && at(4, b"\0\x12\0") && first.len() >= 14 {
        return Some(Kafka); // ApiVersions: each client's first request
    }
    let dns = first.len() >= 14 && first[0] < 2 && (at(4, b"\x01\0\0\x01") || at(4, b"\0\0\0\x01"));
    if dns && at(8, b"\0\0\0\0") {
        return Some(Dns);
    }
    if matches!(first[0], 0x92..=0x94) && matches!(first.get(1), Some(0xa1..=0xbf | 0xd9)) {
        return Some(Fluentd);
    }
    None
}

/// JSON, XML, and text of no kind that is known. Eight bytes and less that look like text may be
/// weights: 0.81 is `?O\)` as an f32, 19.2 is `@3333333` as an f64.
fn text(first: &[u8]) -> Option<Foreign> {
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
    // GELF ends its JSON with a zero byte. The ACK behind a first weight begins with one, at most 8 bytes from the start.
    let first = match first.iter().position(|byte| *byte == 0) {
        Some(end) if end > 8 || matches!(first[0], b'{' | b'[') => &first[..end],
        _ => first,
    };
    if first.len() < 4 || !is_text(first) {
        return None;
    }
    let is_long = first.len() > 8;
    match first.trim_ascii_start().first() {
        Some(b'{' | b'[') => return Some(Json),
        Some(b'<') if is_long => return Some(Xml),
        _ => {}
    }
    let is_no_weight = !matches!(first[0], b'5'..=b'I');
    (is_long || is_no_weight).then_some(Text)
}

/// UTF-8 without control characters other than those of lines; its last character may be cut.
pub fn is_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(_) => bytes,
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        Err(_) => return false,
    };
    let is_control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t');
    !valid.is_empty() && !valid.iter().any(is_control)
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What clients, probes and scanners send first.
    const SENT: &[(&[u8], Foreign)] = &[
        (b"GET / HTTP/1.1\r\nHost: w\r\n\r\n", Http),
        (b"GET ", Http),
        (b"POST /logs HTTP/1.1\r\n", Http),
        (b"DELETE /x", Http),
        (b"BREW /pot HTTP/1.1\r\n", Http),
        (b"X / HTTP/1.0\r\n\r\n", Http),
        (b"CONNECT a:443 HTTP/1.1\r\n", Http),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2),
        (b"HTTP/1.1 400 Bad Request\r\n", HttpAnswer),
        (b"OPTIONS / RTSP/1.0\r\n\r\n", Rtsp),
        (b"OPTIONS sip:nm SIP/2.0\r\n", Sip),
        (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", Tls),
        (b"\x16\x03\x01\x02", Tls),
        (b"\x80\x2e\x01\x03\x01\x00\x15", Tls),
        (b"\x15\x03\x03\x00\x02\x02\x46", Tls),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 8081\r\n", Proxy),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Proxy),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Ssh),
        (b"<34>Oct 11 22:14:15 h su: x\n", Syslog),
        (b"<34>", Syslog),
        (b"<165>1 2003-10-11T22:14:15Z h app - - -", Syslog),
        (b"83 <34>1 2003-10-11T22:14:15Z h app", Syslog),
        (b"EHLO client\r\n", Smtp),
        (b"220 mail.example ESMTP\r\n", Smtp),
        (b"220 ProFTPD FTP server\r\n", Ftp),
        (b"USER anonymous\r\n", Ftp),
        (b"PING\r\n", Redis),
        (b"*1\r\n$4\r\nPING\r\n", Redis),
        (b"stats\r\n", Memcached),
        (b"get key\r\n", Memcached),
        (
            b"\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            Memcached,
        ),
        (b"ruok", ZooKeeper),
        (b"CONNECT {\"verbose\":false}\r\n", Nats),
        (b"CONNECT\naccept-version:1.2\n", Stomp),
        (b"AMQP\0\0\x09\x01", Amqp),
        (b"\x10\x10\0\x04MQTT\x04\x02", Mqtt),
        (b"\0\0\0\x23\0\x12\0\x03\0\0\0\x01\0\x09rdkafka", Kafka),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Postgres),
        (b"\0\0\0\x29\0\x03\0\0user\0", Postgres),
        (b"\x4a\0\0\0\x0a8.0.36\0", MySql),
        (b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0", MongoDb),
        (b"\x04\0\0\0\x05\0\0\0\0", Cassandra),
        (b"\x80\x01\0\x01\0\0\0\x04ping", Thrift),
        (b"2W\0\0\0\x012C", Lumberjack),
        (b"\x93\xa4test\xce", Fluentd),
        (b"\x13BitTorrent protocol", BitTorrent),
        (b"0032git-upload-pack /x", Git),
        (b"@RSYNCD: 31.0\n", Rsync),
        (b"@RSYNCD:", Rsync),
        (b"RFB 003.008\n", Vnc),
        (b"JRMI\0\x02K", Rmi),
        (b"\x05\x01\0", Socks),
        (b"\x04\x01\0\x50\x7f\0\0\x01\0", Socks),
        (b"\x03\0\0\x13\x0e\xe0", Rdp),
        (b"\0\0\0\xa4\xffSMBr", Smb),
        (b"\x30\x0c\x02\x01\x01\x60\x07", Ldap),
        (b"\0\x1e\0\x06\x01\0\0\x01\0\0\0\0\0\0", Dns),
        (b"\x80\0\0\x28\x72\xfe\x1d\x13", Rpc),
        (b"\xff\xfd\x18\xff\xfd\x20", Telnet),
        (b"l\0\x0b\0\0\0\0\0", X11),
        (b"{\"emitterId\":\"a\"}", Json),
        (b"\xef\xbb\xbf{\"a\":1}", Json),
        (b"[1,2]", Json),
        (b"{\"version\":\"1.1\",\"host\":\"x\"}\0", Json),
        (b"{\"a\":1}\0{\"b\"", Json),
        (b"<?xml version=\"1.0\"?>", Xml),
        (b"<log>x</log>", Xml),
        (b"\xff\xfeG\0", Utf16),
        (b"\r\n", EmptyLines),
        (b"\r\n\r\n", EmptyLines),
        (b"\n\n\n\n\n\n\n\n", EmptyLines),
        (b"\0\0\0\0", Zeros),
        (&[0; 64], Zeros),
        (b"HELP\r\n", Text),
        (b"servers.web.load 0.5 1700000000\n", Text),
        (b"HELP", Text),
        (b"wxyz", Text),
        (b"Guten Tag, wer da?\n", Text),
        (b"\xd7EIR\x01\0\xff\xff", WeirAnalyzer),
    ];

    #[test]
    fn what_clients_and_probes_send_is_named() {
        for (bytes, foreign) in SENT {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(recognize(bytes), Some(*foreign), "{text:?}");
        }
    }

    #[test]
    fn a_sentence_says_what_to_do() {
        let said = sentence(b"PROXY TCP4 1.1.1.1 1.1.1.2 1 2\r\n");
        assert!(
            said.starts_with("this looks like a PROXY header; "),
            "{said}"
        );
        assert_eq!(sentence(b"SSH-2.0-x"), "this looks like SSH");
        assert_eq!(sentence(b"\x07"), "");
    }

    #[test]
    fn what_says_nothing_is_not_named() {
        let unknown: [&[u8]; 5] = [b"", b"\x07", b"ab", &[7, 200, 1, 9, 0, 0, 0, 0], b"\xc3("];
        for bytes in unknown {
            assert_eq!(recognize(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn weights_that_people_state_are_not_named() {
        for hundredths in 1..=100_000u32 {
            let weight = f64::from(hundredths) / 100.0;
            for weight in [weight, weight / 1_000.0] {
                assert_eq!(recognize(&weight.to_be_bytes()), None, "{weight}");
                let short: f32 = weight.to_string().parse().expect("a number");
                assert_eq!(recognize(&short.to_be_bytes()), None, "{short}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(foreign) = recognize(&bytes) {
                prop_assert!(!foreign.as_str().is_empty() && !foreign.to_string().is_empty());
            }
            let looked_at = &bytes[..bytes.len().min(LOOK_BYTES)];
            prop_assert_eq!(recognize(&bytes), recognize(looked_at));
        }

        /// 8 bytes of any typed weight in the range that is told apart.
        #[test]
        fn typed_weights_are_not_named(weight in 1.0 / 1_048_576.0..1_048_576.0f64) {
            prop_assert_eq!(recognize(&weight.to_be_bytes()), None);
        }

        #[test]
        fn every_method_is_http(method in "[A-Z]{1,12}", target in "/[a-z]{0,40}") {
            let line = format!("{method} {target} HTTP/1.1\r\n");
            prop_assert_eq!(recognize(line.as_bytes()), Some(Http));
        }

        #[test]
        fn every_priority_is_syslog(priority in 0..192u32, tail in "[ -~]{0,20}") {
            let line = format!("<{priority}>{tail}");
            prop_assert_eq!(recognize(line.as_bytes()), Some(Syslog));
        }
    }
}
