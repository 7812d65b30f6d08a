//! The live page in a real browser with real traffic behind it. `WEIR_SCREENSHOTS=dir` keeps what it
//! looks like.

use std::time::{Duration, Instant};

use crate::browser::Browser;
use crate::load::Load;
use weir_testkit::http::HttpAnalyzer;
use weir_testkit::site::{toml_of, Site};
use weir_testkit::{until, Program, Scratch};

/// What happens is seen within this.
const SEEN: Duration = Duration::from_secs(2);
const TOKEN: &str = "a-token-of-the-test";

fn row(id: &str) -> String {
    format!("[...document.querySelectorAll('#rows tr')].find((r) => r.cells[0].title === '{id}')")
}

/// The state that the page shows of an analyzer.
fn state_is(id: &str, state: &str) -> String {
    format!(
        "{}?.querySelector('.pill').textContent === '{state}'",
        row(id)
    )
}

fn weight_is(id: &str, weight: &str) -> String {
    format!(
        "{}?.querySelector('small').textContent.split(' weight ')[1] === '{weight}'",
        row(id)
    )
}

fn event_is(text: &str) -> String {
    format!(
        "[...document.querySelectorAll('#log li')].some((e) => e.textContent.includes('{text}'))"
    )
}

fn assert_seen(what: &str, began: Instant) {
    let took = began.elapsed();
    println!("{what}: seen after {took:?}");
    assert!(took < SEEN, "{what}: {took:?}");
}

#[test]
fn a_kill_and_a_weight_are_seen_within_two_seconds() {
    let Some(mut browser) = Browser::start() else {
        println!("SKIPPED: no Chromium on this machine (apt install chromium)");
        return;
    };
    let h1 = HttpAnalyzer::start("h1", "ok");
    let files = Scratch::new("page-token");
    let token = files.write("token", TOKEN);
    let site = Site::start(
        "page",
        &toml_of(&h1, 0.2),
        &format!(
            "--shards 2 --health-interval 500ms --admin-token-file {}",
            token.display()
        ),
    );
    let analyzer = |id: &str, weight: f64| {
        let addr = site.distributor.analyzers;
        Program::start(&format!(
            "analyzer --addr {addr} --id {id} --weight {weight} --ack-every 10"
        ))
    };
    let _a1 = analyzer("a1", 0.3);
    let mut a2 = Some(analyzer("a2", 0.3));
    let _a3 = analyzer("a3", 0.2);
    for id in ["h1", "a1", "a2", "a3"] {
        site.until_standing(id, "up");
    }
    let load = Load::start(site.distributor.emitters, site.http(), 3000);

    browser.look(1280, 900, false);
    browser.open(&format!("http://{}/", site.http()));
    for id in ["h1", "a1", "a2", "a3"] {
        browser.until(&state_is(id, "up"));
    }
    browser.until("document.getElementById('stateText').textContent === 'ready'");
    browser.until("document.querySelector('#law strong')?.textContent === 'Conservation holds'");
    // Real shares beside their targets, once five seconds are full of messages.
    let share = |id: &str| {
        format!(
            "parseFloat({}.querySelector('.shares span').textContent)",
            row(id)
        )
    };
    browser.until(&format!("Math.abs({} - 30) < 2", share("a1")));

    browser.until(&event_is("h1 joined with weight 0.2"));
    let began = Instant::now();
    drop(a2.take()); // SIGKILL
    browser.until(&state_is("a2", "offline"));
    browser.until(&event_is("a2 is gone"));
    assert_seen("a kill", began);

    let began = Instant::now();
    site.ctl("weight a3 0.5");
    browser.until(&weight_is("a3", "0.5"));
    browser.until(&event_is("a3 weight 0.2 -> 0.5"));
    assert_seen("a weight", began);

    // Controls: hidden without the token, refused with a wrong one, in force with the right one.
    let hidden = format!("{}.querySelector('.act').hidden", row("a1"));
    assert_eq!(browser.value(&hidden), true);
    browser.type_into("#token", "not-the-right-token");
    browser.until("document.getElementById('said').className === 'bad'");
    assert_eq!(browser.value(&hidden), true);
    browser.value("document.getElementById('token').value = ''");
    browser.type_into("#token", TOKEN);
    browser.until(&format!("!{hidden}"));
    let began = Instant::now();
    browser.type_into("#rows input[aria-label='Weight of a1']", "0.75");
    browser.until(&weight_is("a1", "0.75 (pinned)"));
    assert_seen("a weight that was typed into the page", began);
    until("it is in force", || site.analyzer("a1")["weight"] == 0.75);
    browser.value("document.querySelector(\"#rows button[aria-label='Drain a3']\").click()");
    browser.until(&state_is("a3", "draining"));
    browser.value("document.querySelector(\"#rows button[aria-label='Resume a3']\").click()");
    browser.until(&state_is("a3", "up"));

    let _a2 = analyzer("a2", 0.3);
    browser.until(&state_is("a2", "up"));
    let held = browser.value("performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith(location.origin) && !n.startsWith('data:'))");
    assert_eq!(held, serde_json::json!([]), "nothing from elsewhere");
    for (name, width, dark) in [
        ("light", 1280, false),
        ("dark", 1280, true),
        ("phone", 390, false),
        ("phone-dark", 390, true),
    ] {
        browser.look(width, 900, dark);
        std::thread::sleep(Duration::from_millis(700));
        let over = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert_eq!(over, 0, "{name}: wider than the window");
        if let Some(dir) = std::env::var_os("WEIR_SCREENSHOTS") {
            let file = std::path::Path::new(&dir).join(format!("{name}.png"));
            std::fs::write(file, browser.screenshot()).expect("written");
        }
    }
    load.end();
    site.stop().assert_clean();
}
