//! Where analyzers over HTTP are: names whose address changes, resolvers that hang, endpoints that are the
//! distributor itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_testkit::http::{packet, Client};
use weir_testkit::process::{namespaces, run};
use weir_testkit::site::Site;
use weir_testkit::{until, Distributor, Scratch};

/// Answers 200 to everything; the methods that it was asked.
fn server(listener: TcpListener) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let shown = Arc::clone(&asked);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, asked) = (socket.expect("accepted"), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let mut some = [0; 4096];
                while let Ok(len @ 1..) = socket.read(&mut some) {
                    bytes.extend_from_slice(&some[..len]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let length = head.split("Content-Length: ").nth(1);
                    let length = length.and_then(|text| text.lines().next()?.parse().ok());
                    if body.len() < length.unwrap_or(0) {
                        continue;
                    }
                    let method = head.split(' ').next().unwrap_or_default();
                    asked.lock().expect("no panic").push(method.to_owned());
                    bytes.clear();
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if socket.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    shown
}

/// A distributor that has a hosts file of its own, and the site's folder.
fn with_hosts(name: &str, hosts: &str, flags: &str) -> Result<Site, String> {
    let unshare = namespaces(&["--mount"], "mount --bind /etc/hostname /etc/hosts")?;
    let scratch = Scratch::new(name);
    let path = scratch.write("hosts", hosts);
    let start = |flags: &str| {
        let script = format!(
            "mount --bind {} /etc/hosts; exec \"$0\" \"$@\"",
            path.display()
        );
        Distributor::start_in(&unshare, &script, flags)
    };
    Ok(Site::start_by(scratch, "", flags, start))
}

#[test]
fn packets_and_health_checks_go_to_the_same_address() {
    let first = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = first.local_addr().expect("bound").port();
    let second = TcpListener::bind(("127.0.0.5", port)).expect("the same port");
    let (first, second) = (server(first), server(second));
    let flags =
        format!("--shards 2 --health-interval 200ms --http-analyzer h=1@http://an.test:{port}");
    let site = match with_hosts("moves", "127.0.0.1 an.test\n", &flags) {
        Ok(site) => site,
        Err(why) => return println!("SKIPPED: no mounts of its own here: {why}"),
    };
    site.until_standing("h", "up");
    let mut client = Client::connect(site.http());
    let mut post = || {
        let json = "Content-Type: application/json\r\n";
        client
            .post("/logs?wait=acked", json, &packet("e", 0..1))
            .status
    };
    for _ in 0..10 {
        assert_eq!(post(), 200);
    }
    let count = |asked: &Mutex<Vec<String>>, method: &str| {
        let asked = asked.lock().expect("no panic");
        asked.iter().filter(|other| *other == method).count()
    };
    assert_eq!((count(&first, "POST"), count(&second, "POST")), (10, 0));

    std::fs::write(site.scratch.path("hosts"), "127.0.0.5 an.test\n").expect("written");
    site.distributor
        .wait_log("analyzer moved id=\"h\" to=127.0.0.5:");
    until("both go to the new one", || {
        assert_eq!(post(), 200);
        count(&second, "POST") > 0 && count(&second, "GET") > 2
    });
    let before = (count(&first, "POST"), count(&first, "GET"));
    for _ in 0..50 {
        assert_eq!(post(), 200);
    }
    let checks = count(&second, "GET");
    until("more checks", || count(&second, "GET") > checks + 2);
    assert_eq!(
        (count(&first, "POST"), count(&first, "GET")),
        before,
        "none to the old"
    );
    let ended = site.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(ended.balance().received, ended.balance().acked);
    assert!(
        !ended.stderr.contains("analyzer down"),
        "no link ended for it"
    );
}

/// Threads of a process.
fn threads(pid: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    threads.expect("it runs").count()
}

#[test]
fn a_resolver_that_hangs_costs_few_threads_and_no_time() {
    // Nobody answers there.
    let mute = std::net::UdpSocket::bind("127.0.0.99:53");
    let unshare = namespaces(&["--mount"], "mount --bind /etc/hostname /etc/resolv.conf");
    let (_mute, unshare) = match (mute, unshare) {
        (Ok(mute), Ok(unshare)) => (mute, unshare),
        (mute, unshare) => {
            return println!("SKIPPED: no resolver of its own here: {mute:?} {unshare:?}")
        }
    };
    let scratch = Scratch::new("resolver");
    let conf = scratch.write("resolv.conf", "nameserver 127.0.0.99\n");
    let start = |flags: &str| {
        let script = format!(
            "mount --bind {} /etc/resolv.conf; exec \"$0\" \"$@\"",
            conf.display()
        );
        Distributor::start_in(&unshare, &script, flags)
    };
    let flags = "--shards 1 --health-interval 200ms --health-timeout 500ms";
    let site = Site::start_by(scratch, "", flags, start);
    let before = threads(site.distributor.pid());
    site.ctl("add-http slow http://slow.example:80 1");
    until("its time-out holds for names", || {
        let row = site.analyzer("slow");
        let error = row["error"].as_str().unwrap_or_default();
        error.contains("the resolver does not answer within 500ms")
    });
    for n in 0..60 {
        site.ctl(&format!("add-http x http://n{n}.example:80 1"));
        site.ctl("remove-http x");
    }
    let now = threads(site.distributor.pid());
    assert!(now <= before + 32 + 8, "{before} -> {now}");
    let began = Instant::now();
    site.stop();
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// What `weir check` says of a file, which it refuses.
fn check(toml: &str) -> String {
    let scratch = Scratch::new("check-endpoint");
    let file = scratch.write("weir.toml", toml);
    let output = run(&["check", file.to_str().expect("plain")]);
    assert!(!output.status.success(), "{toml}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn an_endpoint_that_is_the_distributor_is_refused() {
    for (http, endpoint) in [
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("0.0.0.0:3000", "localhost:3000/x"),
        ("127.0.0.1:3000", "127.0.0.1:8080"),
        ("127.0.0.1:3000", "127.0.0.1:8081"),
    ] {
        let text = check(&format!(
            "[sockets]\nhttp = \"{http}\"\n[[http_analyzers]]\nid = \"me\"\nendpoint = \"http://{endpoint}\"\nweight = 1.0\n"
        ));
        assert!(
            text.contains("is this distributor itself"),
            "{endpoint}: {text}"
        );
    }
    // A port that only the running one knows.
    let site = Site::start("itself", "", "--shards 1 --health-interval 100ms");
    site.ctl(&format!("add-http me http://{} 1", site.http()));
    until("it is told", || {
        let row = site.analyzer("me");
        let error = row["error"].as_str().unwrap_or_default();
        error.contains("status 508: it is this distributor itself")
    });
    let row = site.analyzer("me");
    assert_eq!(row["standing"], "offline", "{row}");
    let answer = Client::connect(site.http()).post_packet(&packet("e", 0..1));
    assert_eq!(answer.status, 503, "nobody takes it: {answer:?}");
    site.stop();
}

#[test]
fn a_ring_of_two_ends() {
    let site = |name: &str| Site::start(name, "", "--shards 1 --health-interval 100ms");
    let (one, two) = (site("ring-one"), site("ring-two"));
    let add = |to: &Site, id: &str, at: SocketAddr| {
        to.ctl(&format!("add-http {id} http://{at} 1"));
        to.until_standing(id, "up");
    };
    add(&one, "two", two.http());
    add(&two, "one", one.http());
    let answer = Client::connect(one.http()).post_packet(&packet("e", 0..3));
    assert_eq!(answer.status, 202, "{answer:?}");
    let of = |site: &Site, name: &str| site.get("/stats")[name].as_u64().expect("a number");
    until("it is set aside somewhere", || {
        of(&one, "dropped") + of(&two, "dropped") == 3
    });
    let received = of(&one, "received") + of(&two, "received");
    assert!(received <= 3 * 9, "{received}");
    let refused = [&one, &two].map(|site| site.ctl("refused"));
    let kept = refused.iter().find(|refused| refused["kept"] == 1);
    assert_eq!(kept.expect("one of them")["packets"][0]["status"], 508);
    for site in [one, two] {
        let ended = site.stop();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(!ended.stderr.contains("POST failed"), "{ended:#?}");
    }
}
