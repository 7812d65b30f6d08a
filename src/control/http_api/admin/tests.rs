//! Orders, against a deck that remembers what it was ordered.

use super::*;
use crate::core::Core;
use crate::fake::{Fake, FakeDataPlane};
use crate::settings::{Reloader, Settings};
use weir_config::Config;

struct File;

impl Reloader for File {
    fn current(&self) -> Value {
        json!({ "path": "weir.toml" })
    }
    fn reload(&self, dry_run: bool, force: bool) -> Result<Value, String> {
        Ok(json!({ "dryRun": dry_run, "force": force, "changed": [] }))
    }
    fn rollback(&self) -> Result<Value, String> {
        Err("rollback: nothing was reloaded".into())
    }
}

fn core(change: impl FnOnce(&mut Settings)) -> (Arc<Core>, Arc<FakeDataPlane>) {
    let data_plane = Arc::new(FakeDataPlane::default());
    *lock(&data_plane.reports) = Fake::new(&[0.4, 0.6]).reports;
    let mut settings = Settings::of(&Config::default(), Stamp::now());
    change(&mut settings);
    (
        Arc::new(Core::new(Box::new(Arc::clone(&data_plane)), settings)),
        data_plane,
    )
}

fn call(core: &Arc<Core>, method: &str, path: &str, body: &str) -> (u16, Value) {
    let ask = Ask {
        body: body.as_bytes().to_vec(),
        ..Ask::new(method, path)
    };
    let response = handle(core, &ask);
    let body = serde_json::from_slice(&response.body).expect("JSON");
    (response.status, body)
}

#[test]
fn orders_reach_the_shards() {
    let (core, data_plane) = core(|_| {});
    for (what, body) in [
        ("weight", r#"{"weight":0.3,"pin":true}"#),
        ("weight", r#"{"weight":0}"#),
        ("unpin", ""),
        ("drain", ""),
        ("resume", ""),
        ("eject", ""),
    ] {
        let (status, answer) = call(
            &core,
            "POST",
            &format!("/admin/analyzers/a%31/{what}"),
            body,
        );
        assert_eq!(
            (status, &answer["analyzer"]),
            (200, &json!("a1")),
            "{answer}"
        );
    }
    let expected = [
        "weight a1 0.3 true",
        "weight a1 0 false",
        "Unpin { name: \"a1\" }",
        "Drain { name: \"a1\" }",
        "Resume { name: \"a1\" }",
        "Eject { name: \"a1\" }",
    ];
    assert_eq!(*lock(&data_plane.orders), expected);
}

#[test]
fn faults_name_thing_value_and_what_is_allowed() {
    let (core, data_plane) = core(|_| {});
    for (method, path, body, status, words) in [
        (
            "POST",
            "analyzers/a1/weight",
            "{\"weight\":-1}",
            400,
            ["weight -1", "finite number"],
        ),
        (
            "POST",
            "analyzers/a1/weight",
            "{\"weight\":\"x\"}",
            400,
            ["field weight", "f64"],
        ),
        (
            "POST",
            "analyzers/a1/weight",
            "{\"weight\":1,\"rmap\":\"1s\"}",
            400,
            ["rmap", "`ramp`"],
        ),
        (
            "POST",
            "analyzers/a1/weight",
            "{\"weight\":1,\"ramp\":\"10\"}",
            400,
            ["\"10\"", "ms, s, m or h"],
        ),
        (
            "POST",
            "analyzers/zz/weight",
            "{\"weight\":1}",
            404,
            ["\"zz\"", "not connected"],
        ),
        (
            "POST",
            "analyzers/zz/drain",
            "",
            404,
            ["\"zz\"", "not connected"],
        ),
        (
            "GET",
            "analyzers/a1/drain",
            "",
            405,
            ["GET", "allowed: POST"],
        ),
        ("GET", "nothing", "", 404, ["/admin/nothing", "not found"]),
        (
            "PUT",
            "log-level",
            "{\"level\":\"loud\"}",
            400,
            ["\"loud\"", "debug, trace"],
        ),
        (
            "POST",
            "http-analyzers",
            "{\"id\":\"h\",\"endpoint\":\"h\",\"weight\":1}",
            400,
            ["\"h\"", "host:port behind http://"],
        ),
        (
            "POST",
            "http-analyzers",
            "{\"id\":\"\",\"endpoint\":\"http://h\",\"weight\":1}",
            400,
            ["id \"\"", "1 to 256"],
        ),
        (
            "DELETE",
            "http-analyzers/h",
            "",
            404,
            ["\"h\"", "not configured"],
        ),
        ("POST", "reload", "", 501, ["reload", "configuration file"]),
    ] {
        let (found, answer) = call(&core, method, &format!("/admin/{path}"), body);
        assert_eq!(found, status, "{path} {answer}");
        let error = answer["error"].as_str().expect("an error");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    assert!(lock(&data_plane.orders).is_empty());
}

#[test]
fn a_ramp_goes_by_steps_and_a_later_order_ends_it() {
    let (core, data_plane) = core(|_| {});
    let body = r#"{"weight":1.4,"ramp":"1h"}"#;
    let (status, answer) = call(&core, "POST", "/admin/analyzers/a1/weight", body);
    assert_eq!((status, &answer["from"]), (202, &json!(0.4)));
    core.step_ramps();
    core.step_ramps();
    let orders = lock(&data_plane.orders).clone();
    assert!(
        orders.len() == 2 && orders[1].starts_with("weight a1 0.40"),
        "{orders:?}"
    );
    let (_, status) = call(&core, "GET", "/admin/status", "");
    assert_eq!(status["ramps"][0]["to"], json!(1.4));
    call(
        &core,
        "POST",
        "/admin/analyzers/a1/weight",
        r#"{"weight":0.7}"#,
    );
    core.step_ramps();
    let last = lock(&data_plane.orders).last().cloned();
    assert_eq!(
        last.as_deref(),
        Some("weight a1 0.7 false"),
        "no step after it"
    );
    let (_, status) = call(&core, "GET", "/admin/status", "");
    assert_eq!(status["analyzers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_wanted_weight_ends_the_ramp_of_its_analyzer_and_no_other() {
    let (core, data_plane) = core(|_| {});
    for id in ["a1", "a2"] {
        let path = format!("/admin/analyzers/{id}/weight");
        let (status, answer) = call(&core, "POST", &path, r#"{"weight":0.9,"ramp":"1m"}"#);
        assert_eq!(status, 202, "{answer}");
    }
    let ramps = || {
        let status = lock(&core.ramps).status(Stamp::now().mono_ns);
        let ids = status.iter().map(|ramp| value(ramp)["analyzer"].clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ramps(), ["a1", "a2"]);
    let wanted = |weight| weir_engine::Wanted {
        name: "a1".into(),
        weight,
        pin: true,
    };
    core.want([wanted(0.2)].into()).expect("ordered");
    assert_eq!(ramps(), ["a2"]);
    core.want([wanted(0.2)].into()).expect("ordered");
    assert_eq!(ramps(), ["a2"]);
    let orders = lock(&data_plane.orders);
    let tables = orders.iter().filter(|order| order.starts_with("wanted"));
    assert_eq!(tables.collect::<Vec<_>>(), ["wanted a1 0.2 pin"; 2]);
    drop(orders);
    let (_, status) = call(&core, "GET", "/admin/status", "");
    assert_eq!(status["weightsWanted"], json!(1));
    assert_eq!(status["weightsDigest"].as_str().map(str::len), Some(12));
}

#[test]
fn a_ramp_of_one_that_is_gone_ends() {
    let (core, data_plane) = core(|_| {});
    call(
        &core,
        "POST",
        "/admin/analyzers/a1/weight",
        r#"{"weight":1,"ramp":"1h"}"#,
    );
    lock(&data_plane.reports).clear();
    *lock(&data_plane.reports) = Fake::new(&[]).reports;
    core.step_ramps();
    assert!(lock(&core.ramps).status(0).is_empty());
}

#[test]
fn the_configuration_file_is_anothers_matter() {
    let (core, _) = core(|settings| {
        settings.reloader = Some(std::sync::Arc::new(File));
        settings.configuration.insert("shards".into(), "2".into());
    });
    let (status, answer) = call(&core, "POST", "/admin/reload", r#"{"dryRun":true}"#);
    assert_eq!((status, &answer["dryRun"]), (200, &json!(true)));
    let (_, forced) = call(&core, "POST", "/admin/reload", r#"{"force":true}"#);
    assert_eq!(forced["force"], json!(true));
    assert_eq!(
        call(&core, "POST", "/admin/reload", "").1["dryRun"],
        json!(false)
    );
    assert_eq!(call(&core, "POST", "/admin/rollback", "").0, 409);
    let (_, config) = call(&core, "GET", "/admin/config", "");
    assert_eq!(config["configuration"]["shards"], json!("2"));
    assert_eq!(config["file"]["path"], json!("weir.toml"));
}
