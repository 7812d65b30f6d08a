//! Secrets reach the server, and nobody else: no log, no page, no output of the configuration.

use weir_testkit::http::Client;
use weir_testkit::{process, until, Scratch};

use super::{distributor, send_texts, texts, Receiver};

#[test]
fn a_secret_is_in_requests_alone() {
    for (kind, option, expected) in [
        ("hec", "", "Splunk sesame"),
        ("es", "api_key_file=", "ApiKey sesame"),
        ("loki", "user=anna&password_file=", "Basic YW5uYTpzZXNhbWU="),
        ("otlp", "token_file=", "Bearer sesame"),
    ] {
        let scratch = Scratch::new(&format!("requests-secret-{kind}"));
        let Some(receiver) = Receiver::start(&scratch, kind, &["500"]) else {
            return;
        };
        let file = scratch.write("secret", "sesame\n");
        let option = match option {
            "" => String::new(),
            option => format!("{option}{}", file.display()),
        };
        let url = receiver.url(&scratch, &option);
        let distributor = distributor(std::slice::from_ref(&url), "--http-backoff 50ms");
        send_texts(&distributor, &texts(5));
        until("they arrive", || receiver.texts().len() == 5);
        for request in receiver.requests() {
            assert_eq!(request["headers"]["Authorization"], expected, "{kind}");
        }
        let mut shown = String::new();
        let http = distributor.http.expect("it listens");
        for path in ["/analyzers", "/metrics", "/config", "/"] {
            let mut client = Client::connect(http);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes());
            let answer = client.answer();
            shown += &answer.body;
        }
        let toml = format!("[[http_analyzers]]\nid = \"a1\"\nweight = 1.0\nendpoint = \"{url}\"\n");
        let toml = scratch.write("weir.toml", &toml).display().to_string();
        for arguments in [
            &["check", &toml][..],
            &["config", "--effective", "--config", &toml],
        ] {
            let output = process::run(arguments);
            assert!(output.status.success(), "{arguments:?}");
            shown += &String::from_utf8_lossy(&output.stdout);
            shown += &String::from_utf8_lossy(&output.stderr);
        }
        assert!(
            shown.contains(&url),
            "where it goes is shown, options included"
        );
        let ended = distributor.stop();
        shown += &ended.stdout;
        shown += &ended.stderr;
        for secret in ["sesame", "YW5uYTpzZXNhbWU"] {
            assert!(!shown.contains(secret), "{kind}: {shown}");
        }
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_refused_at_start() {
    for (url, why) in [
        (
            "hec+http://127.0.0.1?token_file=/nowhere/token",
            "token_file=/nowhere/token",
        ),
        (
            "es+http://127.0.0.1?api_key_file=/nowhere/key",
            "api_key_file=/nowhere/key",
        ),
        (
            "hec+http://127.0.0.1",
            "token_file: Splunk takes nothing without a token",
        ),
        (
            "loki+http://127.0.0.1?labels=a b=1",
            "labels=a b=1: allowed: name=value",
        ),
    ] {
        let analyzer = format!("a=1@{url}");
        let output = process::run(&["distributor", "--analyzer", &analyzer]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(why),
            "{url}: {said}"
        );
    }
}
