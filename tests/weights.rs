//! Wanted weights: a file that several replicas have, changed as Kubernetes changes a ConfigMap, and one number by which
//! replicas that differ are seen.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::json;
use weir_testkit::http::HttpAnalyzer;
use weir_testkit::site::{toml_of, Site};
use weir_testkit::{stays, until, Analyzer, Dialect, Distributor, Options, Scratch};

/// A change is in force so soon; on a machine that is busy with other tests twice as late.
const IN_FORCE: Duration = Duration::from_secs(2);
const SETTLED: Duration = Duration::from_millis(700);

fn table(id: &str, weight: f64, pin: bool) -> String {
    format!("[[weights]]\nid = \"{id}\"\nweight = {weight}\npin = {pin}\n")
}

/// A distributor whose file is mounted as a ConfigMap is: `weir.toml -> ..data/weir.toml`, `..data -> ..1`.
struct Replica {
    site: Site,
    version: u32,
}

impl Replica {
    fn start(name: &str, text: &str) -> Replica {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path("mount")).expect("a directory");
        std::fs::create_dir(scratch.path("mount/..0")).expect("a directory");
        std::fs::write(scratch.path("mount/..0/weir.toml"), text).expect("written");
        symlink("..0", scratch.path("mount/..data")).expect("a link");
        symlink("..data/weir.toml", scratch.path("mount/weir.toml")).expect("a link");
        let config = scratch.path("mount/weir.toml");
        let admin = scratch.path("admin.sock");
        let flags = format!(
            "--shards 1 --watch-config --config {} --admin {}",
            config.display(),
            admin.display()
        );
        let distributor = Distributor::start_as_configured(&flags);
        let site = Site {
            distributor,
            scratch,
        };
        Replica { site, version: 0 }
    }

    /// Another text, in the way of the kubelet: a new folder, and the link to it is renamed.
    fn swap(&mut self, text: &str) {
        let path = |name: &str| self.site.scratch.path(&format!("mount/{name}"));
        let old = path(&format!("..{}", self.version));
        self.version += 1;
        let new = format!("..{}", self.version);
        std::fs::create_dir(path(&new)).expect("a directory");
        std::fs::write(path(&new).join("weir.toml"), text).expect("written");
        symlink(&new, path("..data_tmp")).expect("a link");
        std::fs::rename(path("..data_tmp"), path("..data")).expect("renamed");
        std::fs::remove_dir_all(old).expect("removed");
    }

    fn weight(&self, id: &str) -> Option<f64> {
        self.site.analyzer(id)["effectiveWeight"].as_f64()
    }

    fn digest(&self) -> String {
        let status = self.site.get("/admin/status");
        status["weightsDigest"].as_str().expect("text").to_owned()
    }

    fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.site.text("/metrics")).expect("text");
        let start = format!("{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.expect(name).parse().expect("a number")
    }

    fn connect(&self, id: &str, weight: f64) -> Analyzer {
        let options = Options::new(Dialect::Native, weight).id(id).shard(0);
        Analyzer::connect(self.site.distributor.analyzers, &options)
    }
}

fn digests(replicas: &[Replica]) -> BTreeSet<String> {
    replicas.iter().map(Replica::digest).collect()
}

#[test]
fn a_swapped_link_is_in_force_on_all_replicas_and_one_that_is_cut_off_is_seen() {
    let first = format!("{}{}", table("a", 0.2, false), table("b", 0.3, true));
    let names = ["weights-0", "weights-1", "weights-2"];
    let mut replicas = names.map(|name| Replica::start(name, &first));
    let analyzers: Vec<Analyzer> = replicas
        .iter()
        .flat_map(|replica| ["a", "b"].map(|id| replica.connect(id, 0.5)))
        .collect();
    for replica in &replicas {
        until("the wanted weights count", || {
            replica.weight("a") == Some(0.2) && replica.weight("b") == Some(0.3)
        });
        assert_eq!(replica.site.analyzer("b")["pinned"], json!(true));
    }
    until("all agree", || digests(&replicas).len() == 1);
    let before = digests(&replicas);

    // As the kubelet of each node swaps the link. Then one that is not there yet.
    let second = format!("{}{}", table("a", 0.7, false), table("c", 0.1, true));
    let mut slowest = Duration::ZERO;
    for replica in &mut replicas {
        replica.swap(&second);
        let swapped = Instant::now();
        until("the other weights count", || {
            replica.weight("a") == Some(0.7) && replica.weight("b") == Some(0.5)
        });
        slowest = slowest.max(swapped.elapsed());
    }
    println!("in force after {slowest:?} at most");
    assert!(slowest < IN_FORCE, "{slowest:?}");
    until("all agree", || digests(&replicas).len() == 1);
    assert_ne!(digests(&replicas), before);
    let late: Vec<Analyzer> = replicas.iter().map(|r| r.connect("c", 0.9)).collect();
    for replica in &replicas {
        until("it came to its weight", || replica.weight("c") == Some(0.1));
    }
    until("all agree", || digests(&replicas).len() == 1);
    let value = replicas[0].metric("weir_weights_digest");
    let hex = format!("{:012x}", value as u64); // below 2^48
    assert_eq!(hex, replicas[0].digest());

    // The third does not get the next one.
    let third = format!("{}{}", table("a", 0.4, true), table("c", 0.1, true));
    for replica in &mut replicas[..2] {
        replica.swap(&third);
        until("in force", || replica.weight("a") == Some(0.4));
    }
    let cut_off = replicas[2].digest();
    stays("the third differs", SETTLED, || {
        replicas[..2].iter().all(|r| r.digest() != cut_off)
    });
    assert_eq!(digests(&replicas[..2]).len(), 1);
    // An operator's order to one replica is seen as well, and gone with the next file that names the analyzer.
    replicas[2].swap(&third);
    until("healed", || digests(&replicas).len() == 1);
    replicas[1].site.ctl("weight c 0.9");
    until("seen", || digests(&replicas).len() == 2);
    let fourth = format!("{}{}", table("a", 0.4, true), table("c", 0.2, true));
    replicas
        .iter_mut()
        .for_each(|replica| replica.swap(&fourth));
    until("healed", || digests(&replicas).len() == 1);
    assert_eq!(replicas[1].weight("c"), Some(0.2));
    drop((analyzers, late));
}

#[test]
fn a_file_that_does_not_parse_changes_nothing_and_is_named() {
    let mut replica = Replica::start("weights-bad", &table("a", 0.2, false));
    let _analyzer = replica.connect("a", 0.5);
    until("it counts", || replica.weight("a") == Some(0.2));
    replica.swap("[[weights]]\nid = \"a\"\nweight = -1\n");
    let said = replica.site.distributor.wait_log("not reloaded");
    assert!(
        said.contains("weir.toml:3: weights[0].weight = -1: allowed: a finite number"),
        "{said}"
    );
    stays("nothing changes", SETTLED, || {
        replica.weight("a") == Some(0.2)
    });
    assert_eq!(replica.metric("weir_config_last_reload_successful"), 0.0);
    assert_eq!(
        replica.site.distributor.lines("not reloaded").len(),
        1,
        "said once"
    );
    replica.swap(&table("a", 0.6, false));
    until("it counts", || replica.weight("a") == Some(0.6));
    until("well again", || {
        replica.metric("weir_config_last_reload_successful") == 1.0
    });
    // In place, as an editor or a configuration management does it.
    let file = replica.site.scratch.path("mount/weir.toml");
    std::fs::write(&file, table("a", 0.8, true)).expect("written");
    until("it counts", || replica.weight("a") == Some(0.8));
    replica.site.distributor.stop();
}

#[test]
fn precedence_of_file_analyzer_and_operator() {
    let h1 = HttpAnalyzer::start("h1", "ok");
    let toml = format!(
        "{}{}{}{}",
        table("a", 0.2, false),
        table("b", 0.3, true),
        table("h1", 0.1, false),
        toml_of(&h1, 0.4)
    );
    let site = Site::start(
        "precedence",
        &toml,
        "--shards 1 --slow-start 0s --health-interval 200ms",
    );
    let weight = |id: &str| site.analyzer(id)["effectiveWeight"].as_f64();
    let connect = |id: &str| {
        let options = Options::new(Dialect::Native, 0.5).id(id).shard(0);
        Analyzer::connect(site.distributor.analyzers, &options)
    };
    let (a, b) = (connect("a"), connect("b"));
    until("the file counts", || {
        weight("a") == Some(0.2) && weight("b") == Some(0.3) && weight("h1") == Some(0.1)
    });
    // What an analyzer says later counts, unless the file has pinned its weight.
    a.set_weight(0.8);
    b.set_weight(0.8);
    until("its own word counts", || weight("a") == Some(0.8));
    stays("pinned", SETTLED, || weight("b") == Some(0.3));
    // The operator goes before both.
    site.ctl("weight b 0.6 --pin");
    site.rewrite(&format!("{}{}", table("b", 0.9, true), toml_of(&h1, 0.4)));
    site.hang_up();
    site.distributor.wait_log(" reloaded");
    until("of its entry again", || weight("h1") == Some(0.4));
    assert_eq!(weight("a"), Some(0.8), "its own word");
    assert_eq!(weight("b"), Some(0.6), "the operator's pin");
    site.ctl("unpin b");
    until("of the file", || weight("b") == Some(0.9));
}
