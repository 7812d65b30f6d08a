//! Each format: what is sent arrives, once, as it was.

use weir_testkit::{until, Scratch};

use super::{distributor, send, send_texts, texts, Receiver};

const KINDS: [&str; 7] = ["ndjson", "json", "es", "otlp", "otlp-json", "loki", "hec"];

#[test]
fn each_server_gets_every_message_once_in_its_own_format() {
    for kind in KINDS {
        let scratch = Scratch::new(&format!("requests-{kind}"));
        let Some(receiver) = Receiver::start(&scratch, kind, &[]) else {
            return;
        };
        let acks = if kind == "hec" { "acks=indexer" } else { "" };
        let distributor = distributor(&[receiver.url(&scratch, acks)], "");
        let sent: Vec<String> = texts(3000)
            .into_iter()
            .map(|text| format!("{text} \"quoted\" \\ \t\u{1} ä😀"))
            .collect();
        send_texts(&distributor, &sent);
        until(&format!("{kind}: all have arrived"), || {
            receiver.texts().len() >= sent.len()
        });
        // Several requests are on their way at once: order is kept within each.
        let (mut got, mut sent) = (receiver.texts(), sent);
        got.sort();
        sent.sort();
        assert!(got == sent, "{kind}: {} texts", got.len());
        let ended = distributor.stop();
        let balance = ended.assert_clean();
        assert_eq!((balance.received, balance.acked), (3000, 3000), "{kind}");
        assert!(ended.duplicates_possible() == 0, "{kind}");
        let requests = receiver.requests();
        assert!(requests.len() < 300, "{kind}: {} requests", requests.len());
        println!("{kind}: {} requests", requests.len());
    }
}

#[test]
fn severities_and_bytes_that_are_no_text_are_kept() {
    for kind in KINDS {
        let scratch = Scratch::new(&format!("requests-severity-{kind}"));
        let Some(receiver) = Receiver::start(&scratch, kind, &[]) else {
            return;
        };
        let distributor = distributor(&[receiver.url(&scratch, "")], "");
        // JSON that comes as a text stays a text; a PRI says more than the six severities.
        let sent: [(u8, &[u8]); 5] = [
            (0, b"fatal"),
            (2, b"{\"a\":1}"),
            (5, b""),
            (3, b"<29>1 - notice"),
            (4, b"\xff\xfe"),
        ];
        if kind == "otlp-json" {
            send(distributor.emitters, sent[..4].iter().copied());
        } else {
            send(distributor.emitters, sent);
        }
        let count = sent.len() - usize::from(kind == "otlp-json");
        until(&format!("{kind}: all have arrived"), || {
            receiver.texts().len() >= count
        });
        let messages = receiver.messages();
        let texts = receiver.texts();
        assert_eq!(
            texts[..4],
            ["fatal", "{\"a\":1}", "", "<29>1 - notice"],
            "{kind}"
        );
        let fields: Vec<&serde_json::Value> = messages.iter().map(|it| &it["fields"]).collect();
        match kind {
            "ndjson" | "json" | "es" => {
                let severities = fields.iter().map(|fields| fields["severity"].as_u64());
                let severities: Vec<u64> = severities.flatten().collect();
                assert_eq!(severities, [0, 2, 5, 3, 4], "{kind}");
                assert_eq!(fields[3]["facility"], 3, "{kind}");
                assert_eq!(texts[4], "\\xff\\xfe", "{kind}");
            }
            "otlp" | "otlp-json" => {
                let severities = fields.iter().map(|fields| fields["severity"].as_u64());
                let severities: Vec<u64> = severities.flatten().collect();
                assert_eq!(severities, [21, 13, 1, 10, 5][..count], "{kind}");
            }
            "loki" => {
                let levels = fields.iter().map(|fields| fields["level"].as_str());
                let levels: Vec<&str> = levels.flatten().collect();
                assert_eq!(levels, ["fatal", "warn", "trace", "info", "debug"]);
                let times = messages.iter().map(|it| it["time"].as_u64());
                let times: std::collections::BTreeSet<_> = times.collect();
                assert_eq!(
                    times.len(),
                    5,
                    "Loki forgets what is equal in time and text"
                );
            }
            _ => {
                let levels = fields
                    .iter()
                    .map(|fields| fields["fields"]["severity"].as_str());
                let levels: Vec<&str> = levels.flatten().collect();
                assert_eq!(levels, ["fatal", "warn", "trace", "info", "debug"]);
            }
        }
    }
}

#[test]
fn requests_go_where_the_url_says() {
    let scratch = Scratch::new("requests-target");
    let Some(receiver) = Receiver::start(&scratch, "ndjson", &[]) else {
        return;
    };
    let headers = scratch.write("headers", "X-Tenant: blue\n");
    let options = format!(
        "method=PUT&content_type=application/stream%2Bjson&query=a=1%26b=2&headers_file={}&health=/well&body_messages=10",
        headers.display()
    );
    let url = receiver
        .url(&scratch, &options)
        .replacen('?', "/in/logs?", 1);
    let distributor = distributor(&[url], "");
    let sent = texts(25);
    send_texts(&distributor, &sent);
    until("all have arrived", || receiver.texts().len() >= 25);
    let requests = receiver.requests();
    let posts: Vec<_> = requests
        .iter()
        .filter(|it| it.get("word").is_some())
        .collect();
    assert!(posts.len() >= 3, "at most ten messages each");
    for post in posts {
        assert_eq!(post["request"], "/in/logs?a=1&b=2");
        assert_eq!(post["method"], "PUT");
        assert_eq!(post["headers"]["Content-Type"], "application/stream+json");
        assert_eq!(post["headers"]["X-Tenant"], "blue");
    }
    let checks = requests.iter().filter(|it| it["request"] == "/well");
    assert!(checks.count() > 0, "its health is asked for");
}
