//! All protocols at once, and an analyzer that is killed on the way: shares stay exact for each message, and the books
//! of all programs agree. `WEIR_MIX_MESSAGES=1000000` is the long form.

use std::fs;

use weir_testkit::inputs::{Client, Sender, Speaks};
use weir_testkit::process::run;
use weir_testkit::{reports, until, Distributor, Program, Scratch};

fn clients() -> [(&'static str, Client); 5] {
    [
        ("syslog", Client::syslog(Speaks::Lines)),
        ("syslog", Client::syslog(Speaks::Counted)),
        ("forward", Client::fluentd()),
        ("lumberjack", Client::beats()),
        ("relp", Client::librelp()),
    ]
}

#[test]
fn shares_are_exact_and_the_audit_balances() {
    let messages = std::env::var("WEIR_MIX_MESSAGES");
    let messages: u64 = messages.map_or(120_000, |text| text.parse().expect("a number"));
    let scratch = Scratch::new("mix");
    let file = |name: &str| scratch.path(name).display().to_string();
    let distributor = Distributor::start(&format!(
        "--shards 2 --ack-presume 60s --report {} --input syslog@127.0.0.1:0?name=syslog --input forward@127.0.0.1:0?name=forward \
         --input lumberjack@127.0.0.1:0?name=lumberjack --input relp@127.0.0.1:0?name=relp",
        file("d.json")
    ));
    let analyzer = |id: &str, weight: f64| {
        Program::start(&format!(
            "analyzer --addr {} --id {id} --weight {weight} --report {}",
            distributor.analyzers,
            file(&format!("{id}.json"))
        ))
    };
    let steady = [analyzer("a1", 0.5), analyzer("a2", 0.3)];
    let victim = analyzer("a3", 0.2);
    distributor.wait_lanes(3);

    let each = messages / 6;
    let emitter = Program::start(&format!(
        "emitter --addr {} --id e1 --size 200 --connections 4 --batch 16 --rate 0 --count {each} --report {}",
        distributor.emitters,
        file("e1.json")
    ));
    let senders: Vec<(&str, Sender)> = clients()
        .into_iter()
        .zip(0..)
        .map(|((input, client), n)| {
            let ids = n * each..(n + 1) * each;
            (input, Sender::start(distributor.input(input), client, ids))
        })
        .collect();
    until("a third of it", || {
        let made = senders
            .iter()
            .zip(0..)
            .map(|((_, sender), n)| sender.made() - n * each);
        made.sum::<u64>() > each * 5 / 3
    });
    victim.signal("-KILL");
    drop(victim);

    emitter.wait();
    let mut files: Vec<String> = ["d.json", "e1.json", "a1.json", "a2.json", "a3.json.journal"]
        .map(file)
        .into();
    for ((input, sender), n) in senders.into_iter().zip(0..) {
        let record = sender.join();
        assert_eq!(
            (record.fault.as_deref(), record.reconnects),
            (None, 0),
            "{input}"
        );
        let report = file(&format!("s{n}.json"));
        assert!(record.acked.is_empty() || record.acked.len() as u64 == each);
        let text = reports::emitter(&format!("s{n}"), each, false);
        fs::write(&report, text).expect("own file");
        files.push(report);
    }
    let ended = distributor.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for analyzer in steady {
        analyzer.signal("-TERM");
        analyzer.wait();
    }
    assert!(
        ended.rerouted() > 0,
        "the kill did not bite: {}",
        ended.stdout
    );
    let mut args = vec!["audit"];
    args.extend(files.iter().map(String::as_str));
    let output = run(&args);
    let verdict = String::from_utf8_lossy(&output.stdout);
    eprintln!("{verdict}");
    let faults = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{verdict}{faults}");
    assert!(
        verdict.contains(&format!("received     {} = acked", each * 6)),
        "{verdict}"
    );
}
