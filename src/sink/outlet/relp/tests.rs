use weir_protocol::Form;

use super::*;

const STAMP: Stamp = Stamp {
    unix_ms: 1_500,
    text: *b"1970-01-01T00:00:01.500Z",
};

fn outlet() -> Outlet {
    Outlet::start(&Arc::new(OutletOptions::default()), [0; 16])
}

fn message(payload: &str) -> Message<'_> {
    Message {
        severity: 3,
        form: Form::Raw,
        payload: payload.as_bytes(),
    }
}

/// One that has been let in and has sent so many messages.
fn open(messages: usize) -> Outlet {
    let mut outlet = outlet();
    assert!(!outlet.hello(&mut Vec::new()));
    let answer = b"1 rsp 60 200 OK\nrelp_version=0\nrelp_software=weir,0.1\ncommands=syslog\n";
    assert_eq!(heard(&mut outlet, answer), [Ok(Heard::Ready)]);
    for _ in 0..messages {
        outlet.push(&message("<13>x"), &STAMP, &mut Vec::new());
    }
    outlet
}

/// All that it says to these bytes, one answer after the other.
fn heard(outlet: &mut Outlet, bytes: &[u8]) -> Vec<Result<Heard, &'static str>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    loop {
        match outlet.hear(&mut rest, &mut Vec::new()) {
            Ok(Some(heard)) => all.push(Ok(heard)),
            Ok(None) => return all,
            Err(error) => {
                all.push(Err(error.reason));
                return all;
            }
        }
    }
}

#[test]
fn frames_are_those_of_the_specification() {
    let mut outlet = outlet();
    let mut out = Vec::new();
    assert!(!outlet.hello(&mut out), "messages wait for the answer");
    let version = env!("CARGO_PKG_VERSION");
    let data = format!("relp_version=0\nrelp_software=weir,{version}\ncommands=syslog");
    let expected = format!("1 open {} {data}\n", data.len());
    assert_eq!(String::from_utf8_lossy(&out), expected);
    out.clear();
    outlet.push(&message("<13>hello"), &STAMP, &mut out);
    outlet.push(&message("<13>a\nb\n"), &STAMP, &mut out);
    assert_eq!(out, b"2 syslog 9 <13>hello\n3 syslog 8 <13>a\nb\n\n");
    out.clear();
    outlet.push(&message("x"), &STAMP, &mut out);
    let text = "<14>1 1970-01-01T00:00:01.500Z weir weir - - - x";
    let expected = format!("4 syslog {} {text}\n", text.len());
    assert_eq!(String::from_utf8_lossy(&out), expected);
    out.clear();
    outlet.goodbye(&mut out);
    assert!(out.is_empty(), "not before it is open");
    let mut open = open(1);
    open.goodbye(&mut out);
    assert_eq!(out, b"3 close 0\n");
}

#[test]
fn answers_come_in_order_in_any_pieces() {
    let bytes = b"2 rsp 6 200 OK\n3 rsp 3 200\n4 rsp 8 500 oops\n5 rsp 6 200 OK\n0 serverclose 0\n";
    let expected = [
        Ok(Heard::Acked(1)),
        Ok(Heard::Acked(1)),
        Ok(Heard::Refused(500)),
        Ok(Heard::Acked(1)),
        Ok(Heard::Closing),
    ];
    assert_eq!(heard(&mut open(4), bytes), expected);
    for cut in 0..bytes.len() {
        let mut outlet = open(4);
        let mut rest = &bytes[..cut];
        let mut all = Vec::new();
        while let Some(heard) = outlet.hear(&mut rest, &mut Vec::new()).expect("good") {
            all.push(Ok(heard));
        }
        let more = [rest, &bytes[cut..]].concat();
        all.extend(heard(&mut outlet, &more));
        assert_eq!(all, expected, "{cut}");
    }
}

#[test]
fn what_is_no_answer_is_named() {
    for (bytes, reason) in [
        (&b"3 rsp 6 200 OK\n"[..], "answer_unexpected"),
        (b"1 rsp 6 200 OK\n", "answer_unexpected"),
        (b"0 rsp 6 200 OK\n", "answer_unexpected"),
        (b"2 syslog 6 200 OK\n", "answer_unexpected"),
        (b"2 rsp 0\n", "answer_malformed"),
        (b"2 rsp 4 2000\n", "answer_malformed"),
        (b"2 rsp 2 20\n", "answer_malformed"),
        (b"2 rsp 6 200 OK\r\n", "answer_malformed"),
        (b"2 rsp\n", "answer_malformed"),
        (b"2\n", "answer_malformed"),
        (b"2 rsp 5\n", "answer_malformed"),
        (b"2 rsp 6x 200 OK\n", "answer_malformed"),
        (b"x rsp 6 200 OK\n", "answer_malformed"),
        (b" 2 rsp 6 200 OK\n", "answer_malformed"),
        (b"2 rsp 16385 200 OK", "answer_malformed"),
        (b"2 rsp 9999999999 200 OK", "answer_malformed"),
        (b"HTTP/1.1 400 Bad Request\r\n", "answer_malformed"),
        (&[b'1'; 60], "answer_malformed"),
    ] {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(heard(&mut open(1), bytes), [Err(reason)], "{shown}");
    }
    let twice = b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n";
    let expected = [Ok(Heard::Acked(1)), Err("answer_unexpected")];
    assert_eq!(heard(&mut open(1), twice), expected, "one was sent");
}

#[test]
fn who_takes_no_messages_says_so_at_the_beginning() {
    for (bytes, expected) in [
        (&b"1 rsp 6 200 OK\n"[..], Ok(Heard::Ready)),
        (b"1 rsp 22 200 OK\ncommands=syslog\n", Ok(Heard::Ready)),
        (b"1 rsp 21 200 OK\ncommands=close\n", Err("command_missing")),
        (b"1 rsp 10 500 no way\n", Err("refused_by_peer")),
        (b"2 rsp 6 200 OK\n", Err("answer_unexpected")),
    ] {
        let mut outlet = outlet();
        outlet.hello(&mut Vec::new());
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(heard(&mut outlet, bytes), [expected], "{shown}");
    }
}

#[test]
fn numbers_begin_again_at_one() {
    let mut outlet = open(0);
    (outlet.next, outlet.answered) = (Number::of(NUMBER_MAX), Number::of(NUMBER_MAX));
    let mut out = Vec::new();
    outlet.push(&message("<13>x"), &STAMP, &mut out);
    outlet.push(&message("<13>y"), &STAMP, &mut out);
    assert_eq!(out, b"999999999 syslog 5 <13>x\n1 syslog 5 <13>y\n");
    let acks = b"999999999 rsp 6 200 OK\n1 rsp 6 200 OK\n";
    assert_eq!(heard(&mut outlet, acks), [Ok(Heard::Acked(2))]);
}

#[test]
fn numbers_are_counted_up_as_text() {
    let mut number = Number::first();
    for value in 1..=12_345 {
        assert_eq!(number.text(), value.to_string().as_bytes());
        assert_eq!(number.value, value);
        number.advance();
    }
    for value in [9, 10, 99, 199_999_999, NUMBER_MAX - 1] {
        let mut number = Number::of(value);
        number.advance();
        assert_eq!(number.text(), (value + 1).to_string().as_bytes());
    }
}
