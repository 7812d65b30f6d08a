//! The public ledger, end to end: real programs write run reports and journals, `weir audit` judges
//! them. It must find nothing when nothing is wrong, whoever was killed on the way, and it must find
//! what is wrong when something is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use weir_testkit::process::run;
use weir_testkit::{until, Distributor, Program};

/// A directory of this test; gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = format!("audit-{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(dir);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Dir(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Runs `weir audit` on files of this directory.
    fn audit(&self, files: &[&str]) -> Audited {
        let mut args = vec!["audit".to_owned()];
        args.extend(files.iter().map(|file| match file.strip_prefix("--") {
            Some(_) => (*file).to_owned(),
            None => self.text(file),
        }));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Audited(run(&args))
    }

    /// Replaces text in a file; it must be there.
    fn tamper(&self, file: &str, from: &str, to: &str) -> Tampered {
        let path = self.path(file);
        let before = fs::read_to_string(&path).expect("a run report");
        assert!(before.contains(from), "no {from} in {before}");
        fs::write(&path, before.replacen(from, to, 1)).expect("written");
        Tampered { path, before }
    }

    fn distributor(&self, name: &str, flags: &str) -> Distributor {
        let run_report = self.text(name);
        Distributor::start(&format!("--report {run_report} {flags}"))
    }

    fn analyzer(&self, distributor: &Distributor, id: &str, flags: &str) -> Program {
        Program::start(&format!(
            "analyzer --addr {} --id {id} --report {} {flags}",
            distributor.analyzers,
            self.text(&format!("{id}.json"))
        ))
    }

    fn emitter(&self, distributor: &Distributor, id: &str, flags: &str) -> Program {
        Program::start(&format!(
            "emitter --addr {} --id {id} --size 100 --report {} {flags}",
            distributor.emitters,
            self.text(&format!("{id}.json"))
        ))
    }

    /// When an analyzer wrote into its journals last.
    fn journaled(&self, id: &str) -> Option<SystemTime> {
        let dir = fs::read_dir(self.path(&format!("{id}.json.journal")));
        let files = dir.into_iter().flatten().flatten();
        let written = files.filter(|file| file.metadata().is_ok_and(|it| it.len() > 4096));
        written
            .filter_map(|file| file.metadata().ok()?.modified().ok())
            .max()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A file that is put right again when dropped.
struct Tampered {
    path: PathBuf,
    before: String,
}

impl Drop for Tampered {
    fn drop(&mut self) {
        fs::write(&self.path, &self.before).expect("written");
    }
}

#[derive(Debug)]
struct Audited(Output);

impl Audited {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    fn assert_balanced(&self) -> &Audited {
        assert_eq!(
            self.0.status.code(),
            Some(0),
            "{}{}",
            self.stdout(),
            self.stderr()
        );
        assert!(self.stdout().ends_with("\nbalanced\n"), "{}", self.stdout());
        self
    }

    fn assert_not(&self, words: &[&str]) {
        assert_eq!(
            self.0.status.code(),
            Some(1),
            "{}{}",
            self.stdout(),
            self.stderr()
        );
        assert!(
            self.stdout().ends_with("NOT BALANCED\n"),
            "{}",
            self.stdout()
        );
        for word in words {
            assert!(
                self.stdout().contains(word),
                "no {word:?} in {}",
                self.stdout()
            );
        }
    }

    fn assert_unusable(&self, words: &[&str]) {
        assert_eq!(
            self.0.status.code(),
            Some(2),
            "{}{}",
            self.stdout(),
            self.stderr()
        );
        for word in words {
            assert!(
                self.stderr().contains(word),
                "no {word:?} in {}",
                self.stderr()
            );
        }
    }
}

/// Value of a number in a verdict's or a run report's JSON.
fn number(json: &serde_json::Value, path: &str) -> u64 {
    let value = json.pointer(path).and_then(serde_json::Value::as_u64);
    value.unwrap_or_else(|| panic!("no {path} in {json}"))
}

fn json(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).expect("a run report");
    serde_json::from_str(&text).expect("JSON")
}

fn end(program: Program) {
    program.signal("-TERM");
    program.wait();
}

#[test]
fn killed_analyzers_balance_and_what_is_left_out_is_missed() {
    let dir = Dir::new("killed");
    let distributor = dir.distributor("d.json", "--shards 2");
    let steady = dir.analyzer(&distributor, "a1", "--weight 0.3");
    let compact = dir.analyzer(&distributor, "c1", "--weight 0.2 --dialect compact");
    let mut victim = Some(dir.analyzer(&distributor, "a2", "--weight 0.5 --delay 20us"));
    distributor.wait_lanes(3);
    let flags = "--rate 40000 --count 120000 --connections 6 --batch 8";
    let emitter = dir.emitter(&distributor, "e1", flags);
    for _ in 0..2 {
        let before = dir.journaled("a2");
        until("ACKs of a2", || dir.journaled("a2") > before);
        std::thread::sleep(Duration::from_millis(300));
        let killed = victim.take().expect("it runs");
        killed.signal("-KILL");
        drop(killed);
        distributor.wait_lanes(2);
        // The same id goes on with the same journals.
        victim = Some(dir.analyzer(&distributor, "a2", "--weight 0.5 --delay 20us"));
        distributor.wait_lanes(3);
    }
    emitter.wait();
    let victim = victim.take().expect("it runs");
    victim.signal("-KILL");
    drop(victim);
    let ended = distributor.stop();
    end(steady);
    end(compact);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.duplicates_possible() > 0, "{ended:#?}");

    let files = ["d.json", "e1.json", "a1.json", "c1.json", "a2.json.journal"];
    let verdict = dir.audit(&files);
    verdict.assert_balanced();
    let printed = dir.audit(&[&files[..], &["--json"]].concat());
    let verdict: serde_json::Value = serde_json::from_str(&printed.stdout()).expect("JSON");
    assert_eq!(number(&verdict, "/sent"), 120_000);
    assert_eq!(number(&verdict, "/books/received"), 120_000);
    assert_eq!(number(&verdict, "/delivered"), 120_000);
    assert!(number(&verdict, "/flagged") > 0, "{verdict}");
    let generations = json(&dir.path("a1.json"));
    assert_eq!(number(&generations, "/journals/0/generation"), 1);

    // Without the journals of the one that was killed its messages are missing.
    let short = dir.audit(&files[..4]);
    short.assert_not(&[
        "journal is missing",
        "no broken connection explains it",
        "e1/0:",
    ]);

    judge_tampered(&dir, &files);
}

#[test]
fn runs_under_one_name_keep_a_report_each_and_their_shares_are_added_up() {
    let dir = Dir::new("cluster");
    let reports = || {
        let files = fs::read_dir(&dir.0).expect("a directory").flatten();
        let names = files.map(|file| file.file_name().into_string().expect("plain"));
        let mut names: Vec<String> = names.filter(|name| name.starts_with("d-")).collect();
        names.sort();
        names
    };
    let run_one = |emitter: &str, count: u32| {
        let distributor = dir.distributor("d-{instance}.json", "--shards 2");
        // As a pod that starts again: the same id, another run.
        let analyzers = [("a1", 0.3), ("a2", 0.7)].map(|(id, weight)| {
            Program::start(&format!(
                "analyzer --addr {} --id {id} --weight {weight} --report {}",
                distributor.analyzers,
                dir.text(&format!("{id}-{{instance}}.json"))
            ))
        });
        distributor.wait_lanes(2);
        let flags = format!("--rate 0 --count {count} --connections 4");
        dir.emitter(&distributor, emitter, &flags).wait();
        let ended = distributor.stop();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        analyzers.into_iter().for_each(end);
    };
    run_one("e1", 5_000);
    run_one("e2", 3_000);
    let two = reports();
    assert_eq!(two.len(), 2, "{two:?}");
    for name in &two {
        let instance = json(&dir.path(name))["instance"].clone();
        assert_eq!(
            *name,
            format!("d-{}.json", instance.as_str().expect("text"))
        );
    }

    let of = |wanted: &str| {
        let files = fs::read_dir(&dir.0).expect("a directory").flatten();
        let names = files.map(|file| file.file_name().into_string().expect("plain"));
        names
            .filter(|name| name.starts_with(wanted) && name.ends_with(".json"))
            .collect::<Vec<String>>()
    };
    let files: Vec<String> = ["d-", "a1-", "a2-", "e1", "e2"]
        .iter()
        .flat_map(|it| of(it))
        .collect();
    assert_eq!(files.len(), 8, "{files:?}");
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let verdict = dir.audit(&files);
    verdict.assert_balanced();
    let printed = verdict.stdout();
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.starts_with("cluster "))
        .collect();
    assert_eq!(lines.len(), 2, "a line for each analyzer: {printed}");
    assert!(
        lines[0].contains(" a1 ") && lines[0].ends_with("; 2 of 2 distributors"),
        "{printed}"
    );
    let verdict = dir.audit(&[&files[..], &["--json"]].concat());
    let verdict: serde_json::Value = serde_json::from_str(&verdict.stdout()).expect("JSON");
    let cluster = verdict["cluster"].as_array().expect("lines");
    let shares = verdict["shares"].as_array().expect("lines");
    assert_eq!((cluster.len(), shares.len()), (2, 4));
    for one in cluster {
        let sum = |field: &str| {
            let same = shares
                .iter()
                .filter(|share| share["analyzer"] == one["analyzer"]);
            same.map(|share| share[field].as_f64().expect("a number"))
                .sum::<f64>()
        };
        for field in ["assigned", "acked", "target", "bound"] {
            assert_eq!(one[field].as_f64(), Some(sum(field)), "{field} of {one}");
        }
        let error = one["error"].as_f64().expect("a number");
        assert!(error.abs() <= sum("bound"), "{one}");
    }
    assert_eq!(
        number(&verdict, "/cluster/0/assigned") + number(&verdict, "/cluster/1/assigned"),
        8_000
    );
    // Of one distributor there is nothing to add up.
    let one = dir.audit(&[two[0].as_str(), "e1.json", files[2]]);
    assert!(!one.stdout().contains("cluster "), "{}", one.stdout());

    for program in ["distributor", "analyzer", "emitter"] {
        let refused = run(&[program, "--report", "/tmp/{pod}.json"]);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{why}");
        for word in ["--report", "{pod} is no placeholder", "{instance}"] {
            assert!(why.contains(word), "{word} in {why}");
        }
    }
}

/// Each of these is one wrong thing in otherwise good evidence.
fn judge_tampered(dir: &Dir, files: &[&str]) {
    let total = "\"received\": 120000";
    for (file, from, to, words) in [
        (
            "d.json",
            total,
            "\"received\": 119999",
            &["is not acked 120000"][..],
        ),
        (
            "d.json",
            "\"dropped\": {}",
            "\"dropped\": {\"none\": 1}",
            &["dropped 1"],
        ),
        (
            "d.json",
            "\"target\": ",
            "\"target\": 1",
            &["beyond the bound"],
        ),
        (
            "d.json",
            "\"assigned\": ",
            "\"assigned\": 1",
            &["analyzers got"],
        ),
    ] {
        let _tampered = dir.tamper(file, from, to);
        dir.audit(files).assert_not(words);
    }
    // One more message was sent on the first connection than anybody ever saw.
    let sent = dir.tamper("e1.json", "\"messages\": 120000", "\"messages\": 120001");
    dir.audit(files)
        .assert_unusable(&["e1.json", "sent.messages", "120001", "allowed: 120000"]);
    let given = dir.tamper("e1.json", "20000\n", "20001\n");
    let missed = dir.audit(files);
    missed.assert_not(&[
        "1 messages are missing",
        "e1/0:20001-20001",
        "never taken 1",
    ]);
    // The same message may be lost with a connection: then that explains it.
    let lost = dir.tamper(
        "e1.json",
        "\"maybe_lost\": []",
        "\"maybe_lost\": [[20001, 20001]]",
    );
    let explained = dir.audit(files);
    explained.assert_balanced();
    assert!(
        explained.stdout().contains("1 lost on the way"),
        "{}",
        explained.stdout()
    );
    let strict = dir.audit(&[files, &["--strict"]].concat());
    strict.assert_not(&["socket buffers of connections that broke"]);
    drop((lost, given, sent));

    for (file, from, to, words) in [
        (
            "d.json",
            "\"acked\"",
            "\"aked\"",
            ["d.json", "ledger.total.aked", "unknown field"],
        ),
        (
            "d.json",
            "\"spill\"",
            "\"wait\"",
            ["d.json", "configuration_sha256", "allowed"],
        ),
        (
            "d.json",
            "\"version\": 5",
            "\"version\": 9",
            ["d.json", "certificate.version: 9", "allowed: 1 to 5"],
        ),
        (
            "a1.json",
            "\"generation\": 1",
            "\"generation\": 5",
            ["a1.json", "journals[0].generation", "5"],
        ),
        (
            "a1.json",
            "\"sha256\": \"",
            "\"sha256\": \"0",
            ["a1.json", "journals[0].sha256", "allowed"],
        ),
        (
            "a1.json",
            "a1.native.0.journal",
            "gone.journal",
            ["a1.json", "journals[0].file", "No such file"],
        ),
    ] {
        let _tampered = dir.tamper(file, from, to);
        dir.audit(files).assert_unusable(&words);
    }
    dir.audit(&[files, &["none.json"]].concat())
        .assert_unusable(&["none.json", "No such file"]);
    dir.audit(&[files, &["d.json"]].concat())
        .assert_unusable(&["d.json", "field instance"]);
    dir.audit(&["d.json", "e1.json"])
        .assert_unusable(&["no analyzer's run report or journal"]);
    judge_journals(dir, files);
}

/// A journal that lost a message, one that has a message again, and a copy.
fn judge_journals(dir: &Dir, files: &[&str]) {
    const BITS_AT: usize = 280;
    let path = dir.path("a2.json.journal/a2.native.0.journal");
    let before = fs::read(&path).expect("a journal");
    // Any page of plane 0 and the first message noted there.
    let pages = (1..before.len() / 4096).map(|page| page * 4096);
    let mut plain = pages.filter(|at| before[*at..*at + 5] == *b"WRJP\0");
    let page = plain.next().expect("a page");
    let bits = &before[page + BITS_AT..page + 4096];
    let byte = page + BITS_AT + bits.iter().position(|bits| *bits != 0).expect("a message");

    let mut forgetful = before.clone();
    forgetful[byte] &= forgetful[byte] - 1;
    fs::write(&path, &forgetful).expect("written");
    dir.audit(files)
        .assert_not(&["1 messages are missing", "1 messages were taken in"]);

    // The message came twice, and the second time without the flag: its page says plane 1.
    let mut again = before.clone();
    let mut twin = before[page..page + 4096].to_vec();
    twin[4] = 1;
    twin[BITS_AT..].fill(0);
    twin[byte - page] = before[byte];
    let checked = twin[4..16].iter().chain(&twin[24..BITS_AT]);
    let checksum = checked.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    twin[16..24].copy_from_slice(&checksum.to_be_bytes());
    again.extend_from_slice(&twin);
    fs::write(&path, &again).expect("written");
    dir.audit(files)
        .assert_not(&["without being flagged", "unrecognised e1/"]);

    let mut damaged = before.clone();
    damaged[page + 9] ^= 1;
    fs::write(&path, &damaged).expect("written");
    dir.audit(files)
        .assert_unusable(&["a2.native.0.journal", "checksum", "damaged"]);

    fs::write(&path, &before).expect("written");
    fs::write(dir.path("copy.journal"), &before).expect("written");
    dir.audit(&[files, &["copy.journal"]].concat())
        .assert_unusable(&["copy.journal", "field uuid", "no copies"]);
    dir.audit(files).assert_balanced();
}

#[test]
fn a_restarted_distributor_balances_while_emitters_go_on() {
    let dir = Dir::new("restart");
    let first = dir.distributor("d1.json", "--shards 2");
    let (emitters, analyzers) = (first.emitters, first.analyzers);
    let programs = ["a1", "a2"].map(|id| dir.analyzer(&first, id, "--weight 0.5"));
    first.wait_lanes(2);
    let emitter = dir.emitter(
        &first,
        "e1",
        "--rate 20000 --count 100000 --connections 4 --batch 4",
    );
    until("messages at a1", || dir.journaled("a1").is_some());
    std::thread::sleep(Duration::from_millis(500));
    let ended = first.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let flags = format!("--shards 2 --emitters {emitters} --analyzers {analyzers}");
    let second = dir.distributor("d2.json", &flags);
    let summary = emitter.wait();
    assert!(summary.contains("left as asked"), "{summary}");
    let ended = second.stop();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    programs.into_iter().for_each(end);

    let files = ["d1.json", "d2.json", "e1.json", "a1.json", "a2.json"];
    let verdict = dir.audit(&files);
    verdict.assert_balanced();
    assert!(
        verdict.stdout().contains("sent         100000"),
        "{}",
        verdict.stdout()
    );
    let taken = |name: &str| number(&json(&dir.path(name)), "/ledger/total/received");
    assert!(taken("d1.json") > 0 && taken("d2.json") > 0);
    // Either distributor's run report alone leaves something unexplained.
    dir.audit(&["d2.json", "e1.json", "a1.json", "a2.json"])
        .assert_not(&["a distributor's run report is missing"]);
}

#[test]
fn a_second_signal_still_writes_the_books() {
    let dir = Dir::new("at-once");
    let distributor = dir.distributor("d.json", "--shards 2 --drain-timeout 60s");
    let analyzer = dir.analyzer(&distributor, "a1", "--delay 10ms");
    distributor.wait_lanes(1);
    let emitter = dir.emitter(&distributor, "e1", "--rate 0 --count 5000");
    emitter.wait();
    until("messages at a1", || dir.journaled("a1").is_some());
    distributor.terminate();
    distributor.wait_log("draining");
    distributor.terminate();
    let ended = distributor.wait();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    analyzer.signal("-KILL");
    drop(analyzer);
    let run_report = json(&dir.path("d.json"));
    let outcome = run_report.pointer("/ending/outcome");
    assert_eq!(outcome.and_then(|it| it.as_str()), Some("ended_at_once"));
    let balance = ended.balance();
    assert_eq!(
        number(&run_report, "/ledger/total/received"),
        balance.received
    );
    assert_eq!(
        number(&run_report, "/ending/abandoned_in_flight"),
        balance.in_flight
    );
    let verdict = dir.audit(&["d.json", "e1.json", "a1.json.journal"]);
    verdict.assert_not(&[
        "ended at once",
        "were taken in by a distributor and are at no analyzer",
    ]);
}

#[test]
fn paths_that_cannot_be_written_are_refused_at_start() {
    for program in [
        &[
            "distributor",
            "--emitters",
            "127.0.0.1:0",
            "--analyzers",
            "127.0.0.1:0",
        ][..],
        &["emitter", "--addr", "127.0.0.1:1"],
        &["analyzer", "--addr", "127.0.0.1:1"],
    ] {
        let output = run(&[program, &["--report", "/nowhere/x.json"]].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for word in ["--report", "/nowhere/x.json", "No such file"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
    }
    let output = run(&["analyzer", "--addr", "127.0.0.1:1", "--journal", "/proc/x"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("--journal") && text.contains("/proc/x"),
        "{text}"
    );
}
