//! The Node reference's four mock analyzers, with its weights: Node programs that take bodies of 100 kB.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_testkit::http::{packet, Client};
use weir_testkit::site::Site;
use weir_testkit::{until, Scratch};

struct Mock {
    child: Child,
    port: u16,
    file: PathBuf,
}

impl Mock {
    /// None: there is no Node here.
    fn start(scratch: &Scratch, name: &str) -> Option<Mock> {
        let file = scratch.path(name);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operate/mock.js");
        let mut node = Command::new("node");
        let node = node.arg(script).arg(&file).stdout(Stdio::piped());
        let mut child = node.spawn().ok()?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a port");
        let port = line.trim().parse().expect("a port");
        Some(Mock { child, port, file })
    }

    /// Messages of the packets that it took.
    fn messages(&self) -> u64 {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let count = |line: &str| line.split(' ').next()?.parse::<u64>().ok();
        text.lines().filter_map(count).sum()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_packet_that_all_mocks_refuse_costs_no_link_and_no_time() {
    let scratch = Scratch::new("mocks");
    let weights = [("A1", 0.1), ("A2", 0.4), ("A3", 0.2), ("A4", 0.3)];
    let mocks: Option<Vec<Mock>> = weights
        .iter()
        .map(|(name, _)| Mock::start(&scratch, name))
        .collect();
    let Some(mocks) = mocks else {
        return println!("SKIPPED: there is no node here");
    };
    let analyzers = weights.iter().zip(&mocks).map(|((name, weight), mock)| {
        format!(
            "--http-analyzer {name}={weight}@http://127.0.0.1:{}",
            mock.port
        )
    });
    let analyzers: Vec<String> = analyzers.collect();
    let flags = format!("--shards 2 {}", analyzers.join(" "));
    let site = Site::start("mocks-site", "", &flags);
    for (name, _) in weights {
        site.until_standing(name, "up");
    }
    let json = "Content-Type: application/json\r\n";
    let post = |client: &mut Client, body: &str| {
        let began = Instant::now();
        let status = client.post("/logs?wait=acked", json, body).status;
        (status, began.elapsed())
    };
    let mut client = Client::connect(site.http());
    let mut usual: Vec<Duration> = (0..200)
        .map(|n| {
            let (status, took) = post(&mut client, &packet("e", n..n + 1));
            assert_eq!(status, 200);
            took
        })
        .collect();
    usual.sort_unstable();

    // One message of 150 kB that all refuse; and as much in many messages, which is halved.
    let large = format!(
        "{{\"emitterId\":\"e\",\"messages\":[{{\"message\":\"{}\"}}]}}",
        "x".repeat(150_000)
    );
    let one = format!("{{\"message\":\"{}\"}}", "y".repeat(1480));
    let many = format!(
        "{{\"emitterId\":\"e\",\"messages\":[{}]}}",
        vec![one; 100].join(",")
    );
    let http = site.http();
    let others = std::thread::spawn(move || {
        let mut client = Client::connect(http);
        let mut refused = Vec::new();
        for _ in 0..20 {
            refused.push(client.post("/logs?wait=acked", json, &large).status);
            refused.push(client.post("/logs?wait=acked", json, &many).status);
        }
        refused
    });
    let mut beside: Vec<Duration> = (0..200)
        .map(|n| {
            let (status, took) = post(&mut client, &packet("e", n..n + 1));
            assert_eq!(status, 200);
            took
        })
        .collect();
    beside.sort_unstable();
    let refused = others.join().expect("no panic");
    assert_eq!(refused, [422, 200].repeat(20));
    println!(
        "median {:?} and most {:?}; beside refused packets {:?} and {:?}",
        usual[100], usual[199], beside[100], beside[199]
    );
    // This host may be busy: what it costs is told by the median, and by no pause of a try (1 s).
    assert!(
        beside[100] < usual[100] + Duration::from_millis(100),
        "{beside:?}"
    );
    assert!(
        beside[199] < Duration::from_millis(900),
        "{:?}",
        beside[199]
    );

    let stats = site.get("/stats");
    assert_eq!(stats["dropped"], 20, "{stats}");
    let failed = |name: &str| stats["analyzers"][name]["posts"]["failed"].as_u64();
    for (name, _) in weights {
        assert_eq!(failed(name), Some(0), "{stats}");
        assert_eq!(site.analyzer(name)["standing"], "up");
    }
    let kept = site.ctl("refused --limit 1");
    assert_eq!(
        (&kept["kept"], &kept["packets"][0]["status"]),
        (&20.into(), &413.into())
    );
    until("all are there", || {
        mocks.iter().map(Mock::messages).sum::<u64>() == 400 + 20 * 100
    });
    let ended = site.stop();
    assert!(!ended.stderr.contains("analyzer down"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0));
}
