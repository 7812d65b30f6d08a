//! What the doctor says of inputs of datagrams.

use crate::tree::Tree;

/// What it says in one check, of a distributor with this file.
fn check(tree: &Tree, id: &str, file: &str) -> serde_json::Value {
    let path = tree.root().join("weir.toml");
    std::fs::write(&path, file).expect("written");
    let (_, report) = tree.doctor(&format!("--cores 2-7 --config {}", path.display()));
    let checks = report["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["id"] == id);
    check.expect("it is looked at").clone()
}

/// An input of datagrams, with these lines more.
fn input(more: &str) -> String {
    format!("[[inputs]]\nprotocol = \"syslog\"\ntransport = \"udp\"\nlisten = \"127.0.0.1:10514\"\n{more}\n")
}

#[test]
fn a_buffer_that_the_kernel_does_not_give_is_a_finding_with_its_stage() {
    let tree = Tree::healthy("doctor-datagrams");
    tree.write("proc/sys/net/core/rmem_max", "212992");
    let found = |file: &str| check(&tree, "datagram-buffer", file);
    let check = found(&input(""));
    assert_eq!(check["outcome"], "warning", "{check}");
    let said = check["says"].as_str().expect("a text");
    for word in [
        "4096 KiB",
        "208 KiB",
        "net.core.rmem_max",
        "lost before receipt",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(check["mend"]["stage"], "sysctl", "{check}");
    let check = found(&input("receive_buffer = \"64MiB\""));
    assert_eq!(
        check["mend"]["kind"], "command",
        "beyond the stage: {check}"
    );
    let check = found(&input("receive_buffer = \"64KiB\""));
    assert_eq!(check["outcome"], "ok", "{check}");
    let check = found("");
    assert_eq!(check["outcome"], "ok", "there are none: {check}");
}

#[test]
fn a_port_that_somebody_has_for_datagrams_is_named() {
    let tree = Tree::healthy("doctor-datagram-ports");
    // 10514, 0x2912, without a peer.
    let table = "  sl  local_address rem_address   st\n   0: 0100007F:2912 00000000:0000 07 00000000:00000000\n";
    let ports = |path: &str| {
        tree.write(path, table);
        let check = check(&tree, "ports", &input(""));
        tree.write(path, "");
        check
    };
    let check = ports("proc/net/udp");
    assert_eq!(check["outcome"], "note", "{check}");
    let said = check["says"].as_str().expect("a text");
    assert!(said.contains("port 10514 already"), "{said}");
    let check = ports("proc/net/tcp");
    assert_eq!(check["outcome"], "ok", "ports of TCP are others: {check}");
}
