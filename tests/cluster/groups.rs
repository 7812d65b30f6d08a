//! Groups of HTTP analyzers: members come and go with a name.

use std::time::Duration;

use serde_json::Value;
use weir_testkit::dns::{Dns, Says};
use weir_testkit::site::Site;
use weir_testkit::{stays, until};

use crate::places::{ports, Client};

fn config(dns: &Dns, discover: &str, weight_is: &str) -> String {
    format!(
        "[http_delivery]\nnameserver = [\"{}\"]\nhealth_interval = \"200ms\"\nslow_start = \"0s\"\n\
         [[http_analyzers]]\nid = \"pool\"\ndiscover = \"{discover}\"\nweight = 0.6\nweight_is = \"{weight_is}\"\n",
        dns.addr
    )
}

/// Members that are up, and their weights.
fn members(site: &Site) -> Vec<(String, f64)> {
    let rows = site.get("/admin/analyzers");
    let row = |row: &Value| {
        let id = row["id"].as_str()?.strip_prefix("pool/")?.to_owned();
        (row["standing"] == "up").then(|| (id, row["weight"].as_f64().unwrap_or_default()))
    };
    let rows = rows["analyzers"].as_array().expect("a list").iter();
    let mut members: Vec<_> = rows.filter_map(row).collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members
}

fn until_members(site: &Site, wanted: &[(&str, f64)]) {
    let is_it = || {
        let members = members(site);
        let mut pairs = members.iter().zip(wanted);
        members.len() == wanted.len() && pairs.all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9)
    };
    until(&format!("{wanted:?}"), is_it);
}

fn serve(last: u8, port: u16) -> Client {
    let line = format!("analyzer --http 127.0.0.{last}:{port} --id m{last}");
    Client::start(&[], &line)
}

#[test]
fn members_come_and_go_with_a_name_and_share_the_weight_of_their_group() {
    let (dns, (port, _)) = (Dns::start(), ports());
    dns.says_local("pool.test", &[2, 3, 4]);
    let discover = format!("dns+http://pool.test:{port}");
    let servers = [2, 3, 4, 5].map(|last| serve(last, port));
    let site = Site::start("groups", &config(&dns, &discover, "group"), "--shards 2");
    let [a, b, c, d] = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
    until_members(&site, &[(a, 0.2), (b, 0.2), (c, 0.2)]);

    // Shares are exact among the members.
    let emit = |id: &str, count: u64| {
        let to = site.distributor.emitters;
        let line = format!(
            "emitter --addr {to} --id {id} --rate 20000 --count {count} --duration 0 --size 100"
        );
        Client::start(&[], &line)
    };
    assert_eq!(emit("e1", 30_000).wait().0, Some(0));
    let assigned = || {
        let stats = site.get("/admin/analyzers");
        let rows = stats["analyzers"].as_array().expect("a list").iter();
        let got = |row: &Value| row["assigned"].as_u64().unwrap_or_default();
        rows.map(got).collect::<Vec<u64>>()
    };
    until("all are routed", || {
        assigned().iter().sum::<u64>() == 30_000
    });
    for got in assigned() {
        assert!(got.abs_diff(10_000) <= 6, "{:?}", assigned());
    }

    // One leaves and another comes, while messages are on their way.
    let emitter = emit("e2", 60_000);
    dns.says_local("pool.test", &[2, 3]);
    until_members(&site, &[(a, 0.3), (b, 0.3)]);
    dns.says_local("pool.test", &[2, 3, 4, 5]);
    until_members(&site, &[(a, 0.15), (b, 0.15), (c, 0.15), (d, 0.15)]);
    for says in [Says::Empty, Says::ServFail] {
        dns.says("pool.test", says);
        let (asked, _) = dns.asked();
        until("it has asked again", || dns.asked().0 >= asked + 2);
        stays("all four", Duration::from_secs(1), || {
            members(&site).len() == 4
        });
    }
    // One that is ill takes no part.
    servers[3].signal("-STOP");
    until_members(&site, &[(a, 0.2), (b, 0.2), (c, 0.2)]);
    servers[3].signal("-CONT");
    until_members(&site, &[(a, 0.15), (b, 0.15), (c, 0.15), (d, 0.15)]);
    assert_eq!(emitter.wait().0, Some(0));
    let ended = site.stop();
    assert_eq!(ended.assert_clean().received, 90_000);
}

#[test]
fn targets_of_a_service_are_members_with_a_weight_each_and_a_reload_ends_the_group() {
    let (dns, (one, other)) = (Dns::start(), ports());
    let target = |port, name: &str| (0, 0, port, name.to_owned());
    let records = vec![target(one, "a.test"), target(other, "b.test")];
    dns.says("_logs._tcp.test", Says::Srv(records));
    dns.says_local("a.test", &[2]);
    dns.says_local("b.test", &[3]);
    let _servers = [serve(2, one), serve(3, other)];
    let toml = config(&dns, "dnssrv+http://_logs._tcp.test", "member");
    let site = Site::start("groups-srv", &toml, "--shards 1");
    let (a, b) = (format!("a.test:{one}"), format!("b.test:{other}"));
    until_members(&site, &[(&a, 0.6), (&b, 0.6)]);
    // Health checks and packets follow a target that moves.
    let _moved = serve(4, one);
    dns.says_local("a.test", &[4]);
    site.distributor.wait_log(&format!("to=127.0.0.4:{one}"));
    site.rewrite(&toml.replace("0.6", "0.5"));
    site.hang_up();
    until_members(&site, &[(&a, 0.5), (&b, 0.5)]);
    let rest = toml.split("[[").next().expect("the rest");
    let alone =
        "[[http_analyzers]]\nid = \"alone\"\nendpoint = \"http://127.0.0.3:1\"\nweight = 1\n";
    site.rewrite(&format!("{rest}{alone}"));
    site.hang_up();
    until("the group has gone", || members(&site).is_empty());
    site.stop().assert_clean();
}

/// 8 MiB in buffers of 64 KiB serve 21 analyzers.
#[test]
fn members_without_a_place_are_counted_and_said() {
    const FITS: usize = 21;
    let (dns, (port, _)) = (Dns::start(), ports());
    let says = |count: u16| {
        let ip = |n: u16| std::net::Ipv4Addr::new(127, 1, (n >> 8) as u8, n as u8);
        dns.says("pool.test", Says::A((0..count).map(ip).collect()));
    };
    says(20);
    let _server = Client::start(&[], &format!("analyzer --http 0.0.0.0:{port} --id all"));
    let discover = format!("dns+http://pool.test:{port}");
    let toml = config(&dns, &discover, "member");
    let flags = "--shards 1 --cores 0 --arena 8MiB --batch-bytes 64KiB";
    let site = Site::start("groups-many", &toml, flags);
    let up = |count: usize| until("members are up", || members(&site).len() == count);
    let metric = |line: &str| {
        let text = String::from_utf8(site.text("/metrics")).expect("text");
        text.lines().any(|it| it == line)
    };
    up(20);
    assert!(site.distributor.lines("members found").is_empty());
    for (found, taken, more) in [
        (30, 30, ""),
        (
            300,
            256,
            " (at most 256 of a name, and 256 analyzers over HTTP)",
        ),
    ] {
        says(found);
        let line = site
            .distributor
            .wait_log(&format!("{found} members found, {taken} taken{more}, "));
        let why =
            format!("up: a shard serves {FITS} analyzers, the arena serves no more (--arena)");
        assert!(
            line.contains("group pool: ") && line.contains(&why),
            "{line}"
        );
        up(FITS);
        let is_said = || {
            let status = site.get("/admin/status");
            let group = &status["httpGroups"][0];
            let counts = [
                ("found", usize::from(found)),
                ("taken", taken),
                ("up", FITS),
            ];
            let mut counts = counts.iter();
            let bottleneck = status["bottleneck"].as_str().unwrap_or_default();
            counts.all(|(name, count)| group[*name] == *count)
                && bottleneck.contains("group pool: ")
        };
        until("status and page say so", is_said);
        for (state, count) in [
            ("found", usize::from(found)),
            ("taken", taken),
            ("up", FITS),
        ] {
            let line =
                format!("weir_http_group_members{{group=\"pool\",state=\"{state}\"}} {count}");
            until(&line, || metric(&line));
        }
    }
    assert!(metric(&format!(
        "weir_shard_analyzers_max{{shard=\"0\"}} {FITS}"
    )));
    // All that have no place have one reason, and nobody is reached by halves.
    let rows = site.get("/admin/analyzers");
    let rows = rows["analyzers"].as_array().expect("a list").iter();
    assert!(rows.clone().all(|row| row["standing"] != "partly"));
    site.stop().assert_clean();
}
