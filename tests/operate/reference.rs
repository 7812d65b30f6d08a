//! The reference's own `curl` lines, taken from its document, against HTTP analyzers in its shape. What becomes
//! of a packet field by field is tested where packets are parsed; here is what travels, and every answer.

use std::process::Command;

use serde_json::{json, Value};

use weir_testkit::http::HttpAnalyzer;
use weir_testkit::process::run_command;
use weir_testkit::site::Site;
use weir_testkit::until;

/// The body of the document's `POST /logs`, as it is written there.
const BODY: &str = include_str!("../../src/http/packet/reference.json");

/// Status and body of `curl <arguments> <url>`.
fn curl(arguments: &[&str], url: &str) -> (u16, Value) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", "\n%{http_code}"])
        .args(arguments)
        .arg(url);
    let output = run_command(&mut curl);
    assert!(output.status.success(), "{url}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
    (status.parse().expect("a number"), body)
}

/// Every field of `like` is there with the same type; there may be more.
fn assert_like(found: &Value, like: &Value, at: &str) {
    match (found, like) {
        (Value::Object(found), Value::Object(like)) => {
            for (name, like) in like {
                let field = found.get(name);
                let field = field.unwrap_or_else(|| panic!("{at}.{name}: missing in {found:?}"));
                assert_like(field, like, &format!("{at}.{name}"));
            }
        }
        (Value::Array(found), Value::Array(like)) => {
            assert!(!found.is_empty(), "{at}: empty");
            found.iter().for_each(|one| assert_like(one, &like[0], at));
        }
        (found, like) => assert_eq!(
            std::mem::discriminant(found),
            std::mem::discriminant(like),
            "{at}: {found} is not of the type of {like}"
        ),
    }
}

#[test]
fn the_references_own_requests_get_its_answers() {
    let weights = [("A1", 0.1), ("A2", 0.4), ("A3", 0.2), ("A4", 0.3)];
    let analyzers = weights.map(|(id, weight)| (HttpAnalyzer::start(id, "ok"), weight));
    let flags = analyzers.each_ref().map(|(analyzer, weight)| {
        let (id, address) = (&analyzer.name, analyzer.address);
        format!("--http-analyzer {id}={weight}@http://{address}")
    });
    let site = Site::start("reference", "", &format!("--shards 2 {}", flags.join(" ")));
    let base = format!("http://{}", site.http());
    let get = |path: &str| curl(&[], &format!("{base}{path}"));
    for (analyzer, _) in &analyzers {
        site.until_standing(&analyzer.name, "up");
    }

    let (status, health) = get("/health");
    assert_eq!((status, &health["status"]), (200, &json!("healthy")));
    assert_like(
        &health,
        &json!({"status": "healthy", "worker": 0, "timestamp": "...", "uptime": 1.8}),
        "/health",
    );

    let json_type = ["-H", "Content-Type: application/json"];
    let post = |body: &str| {
        let logs = format!("{base}/logs");
        curl(
            &["-X", "POST", json_type[0], json_type[1], "-d", body],
            &logs,
        )
    };
    let (status, taken) = post(BODY);
    assert_eq!(status, 202, "{taken}");
    assert_like(
        &taken,
        &json!({"success": true, "packetId": "...", "messageCount": 2, "status": "queued",
            "worker": 0, "timestamp": "..."}),
        "/logs",
    );
    assert_eq!(
        (&taken["success"], &taken["messageCount"], &taken["status"]),
        (&json!(true), &json!(2), &json!("queued"))
    );
    for bad in [
        "{}",
        "{\"emitterId\":\"e\"}",
        "{\"emitterId\":\"e\",\"messages\":{}}",
        "{",
    ] {
        let (status, refused) = post(bad);
        assert_eq!(status, 400, "{bad}: {refused}");
        let sentence = "Invalid request body. Required: emitterId, messages (array)";
        assert_eq!(refused["error"], sentence, "{bad}");
        assert!(refused["detail"].is_string(), "{bad}: {refused}");
        assert_like(&refused, &json!({"worker": 0, "timestamp": "..."}), bad);
    }

    let arrived = || analyzers.iter().flat_map(|(one, _)| one.received());
    until("the packet arrived", || arrived().count() == 1);
    let packet = arrived().next().expect("one");
    assert_eq!(packet.packet_id, taken["packetId"].as_str().expect("text"));
    assert_eq!(
        (packet.emitter.as_str(), packet.content_type.as_str()),
        ("web-server-1", "application/json")
    );
    assert_eq!(
        packet.messages,
        ["User login successful", "High memory usage detected"]
    );

    let one = json!({"weight": 0.1, "isOnline": true, "totalMessages": 0,
        "lastDistribution": 1_795_305_132_065_u64, "consecutiveFailures": 0});
    let all = json!({"A1": one, "A2": one, "A3": one, "A4": one});
    until("it is counted", || get("/stats").1["acked"] == 2);
    let (status, stats) = get("/stats");
    assert_eq!((status, &stats["totalAnalyzers"]), (200, &json!(4)));
    assert_like(
        &stats,
        &json!({"queueLength": 0, "isProcessing": false, "analyzers": all, "totalAnalyzers": 1,
            "worker": 0, "timestamp": "..."}),
        "/stats",
    );
    let sent = |id: &str| stats["analyzers"][id]["posts"]["sent"].as_u64();
    let sent = ["A1", "A2", "A3", "A4"].map(|id| sent(id).expect("a number"));
    assert_eq!(sent.iter().sum::<u64>(), 1, "{stats}");
    let (status, queue) = get("/queue");
    assert_eq!((status, &queue["length"]), (200, &json!(0)));
    assert_like(
        &queue,
        &json!({"length": 0, "isProcessing": false, "oldestItem": null,
            "worker": 0, "timestamp": "..."}),
        "/queue",
    );
    let (status, listed) = get("/analyzers");
    assert_eq!(status, 200);
    assert_like(
        &listed,
        &json!({"analyzers": [{"id": "A1", "endpoint": "http://analyzer1:3001", "weight": 0.1,
            "isOnline": true, "consecutiveFailures": 0,
            "lastHealthCheck": 1_795_305_132_065_u64}], "worker": 0, "timestamp": "..."}),
        "/analyzers",
    );
    for (analyzer, weight) in &analyzers {
        let row = site.analyzer(&analyzer.name);
        assert_eq!(row["weight"], json!(weight), "{row}");
        assert_eq!(row["endpoint"], format!("http://{}", analyzer.address));
    }
    site.stop().assert_clean();
}

#[test]
fn what_waits_is_seen() {
    let sick = HttpAnalyzer::start("A1", "sick");
    let flags = format!("--shards 1 --http-analyzer A1=1@http://{}", sick.address);
    let site = Site::start("queue", "", &flags);
    until("its health was seen", || {
        site.analyzer("A1")["consecutiveFailures"].as_u64() > Some(0)
    });
    let row = site.analyzer("A1");
    assert_eq!(
        (&row["isOnline"], &row["weight"]),
        (&json!(false), &json!(1.0))
    );
    assert!(row["lastHealthCheck"].is_u64(), "{row}");
    let (status, ready) = curl(&[], &format!("http://{}/health/ready", site.http()));
    assert_eq!(status, 503, "{ready}");
    assert!(ready["reason"].is_string(), "{ready}");
}
