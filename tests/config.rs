//! Configuration of real processes: where each value comes from, what a bad file or variable is told,
//! what the program writes about itself, and what changes when a file is read again.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};

use weir::cli::config::{diff, Loaded};
use weir::cli::Program;
use weir_testkit::process::{self, run_command};
use weir_testkit::{Distributor, Scratch};

/// Runs `weir` with variables, in a directory.
fn weir(dir: &Path, variables: &[(&str, &str)], line: &str) -> Output {
    let mut command = Command::new(process::weir());
    command.current_dir(dir).args(line.split_whitespace());
    for name in [
        "PORT",
        "WORKER_COUNT",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
    ] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    run_command(&mut command)
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output, status: i32) -> String {
    let said = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(output.stdout, b"", "{said}");
    said
}

/// The line of a setting in what is in force.
fn line(text: &str, key: &str) -> String {
    let begin = format!("{key} = ");
    let mut lines = text.lines().filter(|line| line.starts_with(&begin));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no {key} in:\n{text}"));
    assert_eq!(lines.next(), None, "{key} once");
    line.to_owned()
}

#[test]
fn flags_go_before_the_environment_before_the_file_before_defaults() {
    let scratch = Scratch::new("precedence");
    let file = "[memory]\narena = '32MiB'\n";
    scratch.write(
        "weir.toml",
        &format!("{file}[delivery]\nwindow = 0x100_000\n"),
    );
    let steps = [
        (None, "", "arena = \"64MiB\" # default"),
        (
            None,
            "--config weir.toml",
            "arena = \"32MiB\" # weir.toml:2",
        ),
        (
            Some("48MiB"),
            "--config weir.toml",
            "arena = \"48MiB\" # WEIR_ARENA",
        ),
        (
            Some("48MiB"),
            "--config weir.toml --arena 40MiB",
            "arena = \"40MiB\" # --arena",
        ),
    ];
    for (arena, flags, expected) in steps {
        let variables: Vec<_> = arena
            .map(|arena| ("WEIR_ARENA", arena))
            .into_iter()
            .collect();
        let said = stdout(&weir(
            scratch.folder(),
            &variables,
            &format!("config --effective {flags}"),
        ));
        assert_eq!(line(&said, "arena"), expected);
    }
    // The file itself may be named by a variable, and a flag goes before that.
    let by_variable = [("WEIR_CONFIG", "weir.toml")];
    let said = stdout(&weir(scratch.folder(), &by_variable, "config --effective"));
    assert_eq!(line(&said, "window"), "window = \"1048576\" # weir.toml:4");
    scratch.write("other.toml", "");
    let said = stdout(&weir(
        scratch.folder(),
        &by_variable,
        "config --effective --config other.toml",
    ));
    assert_eq!(line(&said, "arena"), "arena = \"64MiB\" # default");
    // Whoever starts a service sees no flag: the variable is named.
    let missing = [("WEIR_CONFIG", "no/such.toml")];
    let output = weir(scratch.folder(), &missing, "config --effective");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("error: WEIR_CONFIG=no/such.toml: No such file"),
        "{said}"
    );
    // A wrong variable does not matter where a flag goes before it.
    let said = stdout(&weir(
        scratch.folder(),
        &[("WEIR_ARENA", "x")],
        "config --effective --arena 40MiB",
    ));
    assert_eq!(line(&said, "arena"), "arena = \"40MiB\" # --arena");
}

#[test]
fn switches_and_lists_can_be_taken_back() {
    let scratch = Scratch::new("lists");
    let text = "[kernel]\nzero_copy_loopback = true\nwithout = ['send-zc', 'min-wait']\n\
        [protection]\nallow_http = ['10.0.0.0/8']\n\
        [[http_analyzers]]\nid = 'a 1'\nweight = 1\nendpoint = 'http://h:1'\n\
        [[http_analyzers]]\nid = 'b'\nweight = 0.5\nendpoint = 'http://[::1]:2/p/'\n";
    scratch.write("weir.toml", text);
    let effective = |variables: &[(&str, &str)], flags: &str| {
        let line = format!("config --effective --config weir.toml {flags}");
        stdout(&weir(scratch.folder(), variables, &line))
    };
    let said = effective(&[], "");
    assert_eq!(
        line(&said, "zero_copy_loopback"),
        "zero_copy_loopback = true # weir.toml:2"
    );
    assert_eq!(
        line(&said, "without"),
        "without = [\"send-zc\", \"min-wait\"] # weir.toml:3"
    );
    let analyzers = "[[http_analyzers]] # weir.toml:6\nid = \"a 1\"\nendpoint = \"http://h:1\"\nweight = 1.0\n\n\
        [[http_analyzers]] # weir.toml:6\nid = \"b\"\nendpoint = \"http://[::1]:2/p\"\nweight = 0.5\n";
    assert!(said.ends_with(analyzers), "{said}");
    let said = effective(
        &[
            ("WEIR_WITHOUT", "incremental"),
            ("WEIR_HTTP_ANALYZER", "c=1@http://c\nd=2@http://d"),
        ],
        "--zero-copy-loopback=false --allow-http 1.2.3.4",
    );
    assert_eq!(
        line(&said, "zero_copy_loopback"),
        "zero_copy_loopback = false # --zero-copy-loopback"
    );
    assert_eq!(
        line(&said, "without"),
        "without = [\"incremental\"] # WEIR_WITHOUT"
    );
    assert_eq!(
        line(&said, "allow_http"),
        "allow_http = [\"1.2.3.4\"] # --allow-http"
    );
    let ids: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("id = "))
        .collect();
    assert_eq!(ids, ["id = \"c\"", "id = \"d\""]);
    // What is in force is a file that leads to the same.
    scratch.write("again.toml", &said);
    let again = stdout(&weir(
        scratch.folder(),
        &[],
        "config --effective --config again.toml",
    ));
    let values = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| line.split(" # ").next().unwrap_or_default().to_owned());
        values.collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&said));
}

#[test]
fn variables_of_others_count_when_nothing_else_does() {
    let scratch = Scratch::new("fallback");
    let others = [
        ("PORT", "4000"),
        ("WORKER_COUNT", "3"),
        ("RUNTIME_DIRECTORY", "/run/weir:/x"),
        ("STATE_DIRECTORY", "/var/lib/weir"),
    ];
    let said = stdout(&weir(scratch.folder(), &others, "config --effective"));
    assert_eq!(line(&said, "http"), "http = \"127.0.0.1:4000\" # PORT");
    assert_eq!(line(&said, "shards"), "shards = 3 # WORKER_COUNT");
    assert_eq!(
        line(&said, "admin"),
        "admin = \"/run/weir/admin.sock\" # RUNTIME_DIRECTORY"
    );
    assert_eq!(
        line(&said, "dead_letter_dir"),
        "dead_letter_dir = \"/var/lib/weir\" # STATE_DIRECTORY"
    );
    scratch.write(
        "weir.toml",
        "[sockets]\nhttp = 'off'\nadmin = 'off'\n[cores]\nshards = 2\n",
    );
    let said = stdout(&weir(
        scratch.folder(),
        &others,
        "config --effective --config weir.toml",
    ));
    assert_eq!(line(&said, "http"), "http = \"off\" # weir.toml:2");
    assert_eq!(line(&said, "shards"), "shards = 2 # weir.toml:5");
    assert_eq!(line(&said, "admin"), "admin = \"off\" # weir.toml:3");
    let bad = [("PORT", "http"), ("WORKER_COUNT", "0")];
    let said = stderr(&weir(scratch.folder(), &bad, "config --effective"), 2);
    assert!(
        said.contains("PORT=http (for --http): allowed: a port, 0 to 65535"),
        "{said}"
    );
    assert!(
        said.contains("WORKER_COUNT=0 (for --shards): allowed: a whole number"),
        "{said}"
    );
}

#[test]
fn a_wrong_variable_is_named_with_its_value_and_what_is_allowed() {
    let scratch = Scratch::new("variables");
    let bad = [
        ("WEIR_EMITTERS", "8080"),
        ("WEIR_ARENA", "64MB"),
        ("WEIR_ON_SLOW", "drop"),
        ("WEIR_HTTP_ANALYZER", "a=1@gopher://h"),
    ];
    let said = stderr(&weir(scratch.folder(), &bad, "distributor"), 2);
    for expected in [
        "error: WEIR_EMITTERS=8080: allowed: an IP address and a port",
        "error: WEIR_ARENA=64MB: allowed: a whole number of bytes",
        "error: WEIR_ON_SLOW=drop: allowed: spill, wait",
        "error: WEIR_HTTP_ANALYZER=a=1@gopher://h: allowed: ID=WEIGHT@http://host:port",
    ] {
        assert!(
            said.lines().any(|line| line.starts_with(expected)),
            "{expected} in:\n{said}"
        );
    }
    assert_eq!(said.trim_end().lines().count(), bad.len(), "{said}");
    // Values that do not go together are told with where each was given.
    scratch.write("weir.toml", "[memory]\nbatch_bytes = '1MiB'\n");
    let line = "distributor --config weir.toml";
    let said = stderr(&weir(scratch.folder(), &[("WEIR_ARENA", "16MiB")], line), 2);
    assert!(said.contains("--arena 16777216: at least"), "{said}");
    assert!(said.trim_end().ends_with("(--arena: WEIR_ARENA)"), "{said}");
    // Of a name that is nearly right, the distributor says so.
    let near = [
        ("WEIR_ARENNA", "1"),
        ("WEIR_PORT", "tcp://10.0.0.1:1"),
        ("WEIR_EMITTERS", "x"),
    ];
    let said = stderr(
        &weir(
            scratch.folder(),
            &near[..2],
            "distributor --emitters 203.0.113.1:1 --http off",
        ),
        1,
    );
    assert!(
        said.contains("WEIR_ARENNA is no variable of a setting, did you mean WEIR_ARENA?"),
        "{said}"
    );
    assert!(
        !said.contains("WEIR_PORT"),
        "others' variables are theirs: {said}"
    );
}

/// A file, and what each of its errors is said to be, in order.
const BAD_FILES: [(&str, &[&str]); 21] = [
    ("[memory]\narena = \"64MB\"", &["weir.toml:2: memory.arena = \"64MB\": allowed: a whole number of bytes, or one with B, KiB, MiB or GiB"]),
    ("[memory]\narean = 1", &["weir.toml:2: memory.arean: no such key, did you mean arena?; [memory] has arena, batch_bytes, ingress"]),
    ("[memory]\nwindow = 1\n", &["weir.toml:2: memory.window: this key belongs into [delivery]"]),
    ("arena = 1", &["weir.toml:1: arena: this key belongs into [memory]"]),
    ("[http]\nlisten = \"off\"", &["weir.toml:2: http.listen: no such key; [http] has "]),
    ("[memori]\narena = 1", &["weir.toml:1: memori: no such table, did you mean memory?; allowed: sockets, cores"]),
    ("memory = 5", &["weir.toml:1: memory: this is a table, allowed: [memory] and its keys below it"]),
    ("[memory]\narena = 1\narena = 2", &["weir.toml:3: duplicate key"]),
    ("[memory]\narena = true\n[cores]\nshards = '2'", &[
        "weir.toml:2: memory.arena = true: allowed: a whole number of bytes, or text with",
        "weir.toml:4: cores.shards = '2': allowed: a whole number without quotes",
    ]),
    ("[delivery]\nack_timeout = 30\nfarewell = ['1s']\non_slow = 'drop'", &[
        "weir.toml:2: delivery.ack_timeout = 30: allowed: text with a number and a unit",
        "weir.toml:3: delivery.graceful_close = ['1s']: allowed: text with a number and a unit",
        "weir.toml:4: delivery.on_slow = 'drop': allowed: spill, wait",
    ]),
    ("[kernel]\nzero_copy_loopback = 1\nwithout = 'send-zc'\n", &[
        "weir.toml:2: kernel.zero_copy_loopback = 1: allowed: true or false",
        "weir.toml:3: kernel.without = 'send-zc': allowed: a list of texts",
    ]),
    ("[kernel]\nwithout = [\n  'send-zc',\n  'luck',\n  7,\n]\n", &["weir.toml:5: kernel.without = 7: allowed: a list"]),
    ("[kernel]\nwithout = [\n  'send-zc',\n  'luck',\n]\n", &["weir.toml:4: kernel.without = 'luck': allowed: defer-taskrun, incremental"]),
    ("[memory\narena = 1\n[cores]\nshards = \n", &["weir.toml:1: ", "weir.toml:4: "]),
    ("weights = 1", &["weir.toml:1: weights: allowed: tables that begin with [[weights]]"]),
    (
        "[[weights]]\nid = 'a'\nweight = 1\n[[weights]]\nid = 'a'\nweight = 2\npin = 1\n[[weights]]\nid = 'b'\nwieght = 1",
        &[
            "weir.toml:7: weights[1].pin = 1: allowed: true or false",
            "weir.toml:8: weights[2].weight is missing",
            "weir.toml:10: weights[2].wieght: no such key, did you mean weight?",
        ],
    ),
    (
        "[[weights]]\nid = 'a'\nweight = 1\n[[weights]]\nid = 'a'\nweight = 2",
        &["weir.toml:5: weights[1].id = 'a': weights[0] has it too"],
    ),
    ("http_analyzers = 1", &["weir.toml:1: http_analyzers: allowed: tables that begin with [[http_analyzers]]"]),
    ("[[http_analyzers]]\nid = 'a'\nendpoint = 'gopher://h'\nweight = -1\nwieght = 1", &[
        "weir.toml:3: http_analyzers[0].endpoint = 'gopher://h': scheme \"gopher\": allowed: host:port behind http://",
        "weir.toml:4: http_analyzers[0].weight = -1: allowed: a finite number, 0 or more",
        "weir.toml:5: http_analyzers[0].wieght: no such key, did you mean weight?; it has id, endpoint, weight",
    ]),
    ("[[http_analyzers]]\nid = ''\nendpoint = 'http://h'\nweight = 1\n[[http_analyzers]]\nid = 5\nweight = nan", &[
        "weir.toml:2: http_analyzers[0].id = '': allowed: an id of 1 to 256 bytes",
        "weir.toml:5: http_analyzers[1].endpoint is missing",
    ]),
    ("http_analyzers = [\n{id='a', endpoint='http://h', weight=1},\n{id='b', endpoint='http://h', weight=1},\n{id='a', endpoint='http://h', weight=1}]\n", &[
        "weir.toml:4: http_analyzers[2].id = 'a': http_analyzers[0] has it too, allowed: an id of its own",
    ]),
];

#[test]
fn everything_that_is_wrong_with_a_file_is_told_with_its_line() {
    let scratch = Scratch::new("bad");
    for (text, expected) in BAD_FILES {
        scratch.write("weir.toml", text);
        let said = stderr(
            &weir(scratch.folder(), &[], "distributor --config weir.toml"),
            2,
        );
        let lines: Vec<&str> = said.trim_end().lines().collect();
        assert_eq!(lines.len(), expected.len(), "{text}\n{said}");
        for (line, expected) in lines.iter().zip(expected) {
            let begins = line
                .strip_prefix("error: ")
                .is_some_and(|l| l.starts_with(expected));
            assert!(begins, "{text}\nexpected: {expected}\n{said}");
        }
        // The same from `weir check`, whose file it is.
        let checked = stderr(&weir(scratch.folder(), &[], "check weir.toml"), 1);
        assert_eq!(checked.trim_end(), said.trim_end());
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let scratch = Scratch::new("unreadable");
    std::fs::write(scratch.path("latin1.toml"), b"# \xfc").expect("written");
    scratch.write("large.toml", &"#".repeat((1 << 20) + 1));
    scratch.write("short-token", "secret\n");
    scratch.write("token.toml", "[protection]\nanalyzer_token_file = 'none'");
    scratch.write(
        "short.toml",
        "[protection]\nadmin_token_file = 'short-token'",
    );
    scratch.write("admin.toml", "[sockets]\nadmin = '127.0.0.1:1'");
    scratch.write("report.toml", "[ledger]\nreport = 'no/such/d.json'");
    let in_dir = |name: &str| scratch.path(name).display().to_string();
    for (file, expected) in [
        ("none.toml", "none.toml: No such file"),
        (".", "error: .: Is a directory"),
        ("/dev/zero", "/dev/zero: more than the 1048576 bytes"),
        ("latin1.toml", "latin1.toml: byte 2 is no UTF-8"),
        ("large.toml", "large.toml: more than the 1048576 bytes"),
        (
            "admin.toml",
            "--admin 127.0.0.1:1: a TCP address needs --admin-token-file",
        ),
        ("admin.toml", "(--admin: "),
    ] {
        let said = stderr(&weir(scratch.folder(), &[], &format!("check {file}")), 1);
        assert!(said.contains(expected), "{expected} in: {said}");
    }
    for (file, flag, path, why) in [
        (
            "token.toml",
            "--analyzer-token-file",
            "none",
            "No such file",
        ),
        (
            "short.toml",
            "--admin-token-file",
            "short-token",
            "6 bytes; allowed: 16 to 256",
        ),
        (
            "report.toml",
            "--report",
            "no/such/d.json",
            "cannot be written",
        ),
    ] {
        // Relative to the file, wherever it is read from.
        let said = stderr(
            &weir(Path::new("/"), &[], &format!("check {}", in_dir(file))),
            1,
        );
        let expected = format!("error: {flag} {}: ", in_dir(path));
        assert!(
            said.starts_with(&expected) && said.contains(why),
            "{expected} in: {said}"
        );
        assert!(
            said.contains(&format!("({flag}: {}:2)", in_dir(file))),
            "{said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn check_says_ok_counts_and_warns() {
    let scratch = Scratch::new("check");
    scratch.write("token", "0123456789abcdef0123\n");
    let open =
        "[sockets]\nemitters = '0.0.0.0:8080'\nanalyzers = '[::]:8081'\nhttp = '10.1.2.3:3000'\n";
    scratch.write("open.toml", open);
    // What the environment says is another matter.
    let said = stdout(&weir(
        scratch.folder(),
        &[("WEIR_ARENA", "x"), ("PORT", "x")],
        "check open.toml",
    ));
    let warned: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("warning: "))
        .collect();
    for (line, listener) in warned.iter().zip([
        "--emitters 0.0.0.0:8080",
        "--analyzers [::]:8081",
        "--http 10.1.2.3:3000",
    ]) {
        assert!(line.contains(listener), "{said}");
    }
    assert_eq!(warned.len(), 3, "{said}");
    assert!(said.ends_with("open.toml: ok, 3 settings\n"), "{said}");
    let closed = "[protection]\nallow_emitters = ['10.0.0.0/8']\nanalyzer_token_file = 'token'\nallow_http = ['10.0.0.0/8']\n";
    scratch.write("closed.toml", &format!("{open}{closed}"));
    let said = stdout(&weir(scratch.folder(), &[], "check closed.toml"));
    let lines: Vec<&str> = said.lines().collect();
    let [sizing, memory, descriptors, ok] = lines[..] else {
        panic!("four lines: {said}");
    };
    assert!(sizing.contains(" shards"), "{said}");
    assert!(memory.contains("68 MiB + 16 MiB = "), "{said}");
    assert_eq!(ok, "closed.toml: ok, 6 settings");
    assert!(descriptors.contains("(RLIMIT_NOFILE): "), "{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn the_default_file_changes_nothing_and_runs() {
    let scratch = Scratch::new("default");
    let default = stdout(&weir(scratch.folder(), &[], "config --default"));
    let path = scratch.write("weir.toml", &default);
    let said = stdout(&weir(scratch.folder(), &[], "check weir.toml"));
    assert!(said.ends_with("\nweir.toml: ok, 0 settings\n"), "{said}");
    let without = stdout(&weir(scratch.folder(), &[], "config --effective"));
    let with = stdout(&weir(
        scratch.folder(),
        &[],
        "config --effective --config weir.toml",
    ));
    assert_eq!(without, with);
    let schema = stdout(&weir(scratch.folder(), &[], "config --schema"));
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(
        schema["properties"]["memory"]["properties"]["arena"]["default"],
        "64MiB"
    );
    // A distributor goes by a file.
    let text = default.replace("# not set: shards = N", "shards = 3");
    assert_ne!(text, default);
    std::fs::write(&path, text).expect("written");
    let distributor = Distributor::start(&format!("--http off --config {}", path.display()));
    assert_eq!(distributor.shards, 3);
    distributor.stop().assert_clean();
}

#[test]
fn manuals_and_completions_know_every_program_and_flag() {
    let scratch = Scratch::new("generated");
    let out = scratch.path("man");
    stdout(&weir(
        scratch.folder(),
        &[],
        &format!("man --out {}", out.display()),
    ));
    for program in [
        "",
        "-distributor",
        "-emitter",
        "-analyzer",
        "-check",
        "-config",
    ] {
        let page = out.join(format!("weir{program}.1"));
        let page = std::fs::read_to_string(&page).expect("a page");
        assert!(page.contains(".SH NAME"), "{program}");
    }
    let page = std::fs::read_to_string(out.join("weir-distributor.1")).expect("a page");
    assert!(
        page.contains("WEIR_HTTP_BODY") && page.contains("http\\-analyzer"),
        "{page}"
    );
    assert!(stdout(&weir(scratch.folder(), &[], "man")).contains(".TH weir"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&weir(
            scratch.folder(),
            &[],
            &format!("completions {shell}"),
        ));
        assert!(
            script.contains("http-analyzer") && script.contains("completions"),
            "{shell}"
        );
    }
    let said = stderr(&weir(scratch.folder(), &[], "completions csh"), 2);
    assert!(said.contains("csh") && said.contains("bash"), "{said}");
    let said = stderr(&weir(scratch.folder(), &[], "man --out /dev/null/x"), 1);
    assert!(said.contains("--out /dev/null/x: "), "{said}");
    let said = stderr(&weir(scratch.folder(), &[], "config"), 2);
    assert!(said.contains("--default"), "{said}");
}

fn load(path: &Path, flags: &str) -> Loaded {
    let line = format!("weir distributor --config {} {flags}", path.display());
    let line = line.split_whitespace().map(OsString::from);
    let Ok(Program::Distributor(args)) = weir::cli::parse(line).map(|cli| cli.program) else {
        panic!("a distributor");
    };
    Loaded::new(*args).expect("valid")
}

#[test]
fn a_file_that_is_read_again_says_what_would_change() {
    let scratch = Scratch::new("reload");
    scratch.write("token", "0123456789abcdef");
    let analyzer = |id: &str, weight: f64| {
        format!("[[http_analyzers]]\nid = '{id}'\nendpoint = 'http://h:1'\nweight = {weight}\n")
    };
    let text = |tables: &str, analyzers: &[(&str, f64)]| {
        let each: Vec<String> = analyzers
            .iter()
            .map(|(id, weight)| analyzer(id, *weight))
            .collect();
        format!("{tables}{}", each.concat())
    };
    let tables = "[memory]\narena = '64MiB'\n[delivery]\nwindow = '8MiB'\nack_timeout = '60s'\n[protection]\nanalyzer_token_file = 'token'\n";
    let path = scratch.write("weir.toml", &text(tables, &[("a", 1.0), ("b", 2.0)]));
    let old = load(&path, "--window 4MiB --rate-limit 10/1s");
    assert_eq!(diff(&old, &old.reload().expect("valid")), []);

    // The same in other words; a token, a weight, another analyzer; what a flag says stays.
    let tables = "[memory]\narena = 67_108_864\n[delivery]\nwindow = '9MiB'\nack_timeout = '1m'\nfarewell = '2s'\n\
        [protection]\nanalyzer_token_file = 'token'\nallow_http = ['10.1.1.1/8']\n[logging]\nlog_level = 'debug'\n";
    scratch.write("weir.toml", &text(tables, &[("c", 1.0), ("b", 2.5)]));
    scratch.write("token", "0123456789abcdeF");
    let new = old.reload().expect("valid");
    assert_eq!(new.config.instance, old.config.instance, "the run goes on");
    let shown: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    let token = scratch.path("token").display().to_string();
    assert_eq!(
        shown,
        [
            "delivery.graceful_close: 1s -> 2s, needs a restart".to_owned(),
            "logging.log_level: info -> debug".to_owned(),
            "http_analyzers.a: weight 1 at http://h:1 -> absent".to_owned(),
            "http_analyzers.c: absent -> weight 1 at http://h:1".to_owned(),
            "http_analyzers.b: weight 2 at http://h:1 -> weight 2.5 at http://h:1".to_owned(),
            "protection.allow_http: all -> 10.0.0.0/8".to_owned(),
            format!("protection.analyzer_token_file: {token} -> {token}, with another token"),
        ]
    );

    // A file that has become wrong changes nothing.
    scratch.write("weir.toml", "[memory]\narena = 'x'\nbatch_bytes = 'y'\n");
    let problems = new.reload().expect_err("wrong");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("weir.toml:2: memory.arena = 'x': allowed"),
        "{problems:?}"
    );
    scratch.write("weir.toml", "[memory]\narena = '64KiB'\n");
    let problems = new.reload().expect_err("too small");
    assert!(
        problems[0].contains("--arena 65536: at least"),
        "{problems:?}"
    );
    assert!(
        problems[0].ends_with(&format!("(--arena: {}:2)", path.display())),
        "{problems:?}"
    );
    std::fs::remove_file(&path).expect("removed");
    assert!(new
        .reload()
        .is_err_and(|problems| problems[0].contains("No such file")));
}
