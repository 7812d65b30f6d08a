//! Limits per client with clients of several networks, in a network namespace.

use std::process::Command;

use weir_testkit::process::namespaces;
use weir_testkit::site::Site;
use weir_testkit::{Distributor, Scratch};

/// Loopback with three addresses, two of them of one network.
const NETWORK: &str = "ip link set lo up
for address in 2001:db8::a 2001:db8::b 2001:db8:0:1::a; do
    ip -6 address add $address/64 dev lo nodad
done
";

#[test]
fn clients_of_one_ipv6_network_share_a_limit() {
    let trial = format!("{NETWORK}curl --version >/dev/null");
    let unshare = match namespaces(&["--net"], &trial) {
        Ok(unshare) => unshare,
        Err(why) => return println!("SKIPPED: no network of its own here: {why}"),
    };
    let script = format!("{NETWORK}exec \"$0\" \"$@\"");
    let start = |flags: &str| {
        // Not the listener that Site asks for: clients come by both protocols.
        let flags = flags.replace("--http 127.0.0.1:0", "--http [::]:0");
        Distributor::start_in(&unshare, &script, &flags)
    };
    let flags = "--shards 2 --rate-limit 2/1h";
    let site = Site::start_by(Scratch::new("networks"), "", flags, start);
    let port = site.http().port();
    let pid = site.distributor.pid().to_string();
    let status = |from: &str, to: &str| {
        let url = format!("http://{to}:{port}/logs");
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &pid, "--net"]);
        if unshare.contains(&"--map-root-user".to_owned()) {
            enter.args(["--user", "--preserve-credentials"]);
        }
        enter.args(["curl", "-sgS", "-o", "/dev/null", "-w", "%{http_code}"]);
        enter.args(["--interface", from, "-d", "{}", &url]);
        let output = enter.output().expect("nsenter runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a status")
    };
    let server = "[2001:db8::a]";
    assert_eq!(status("2001:db8::a", server), "415", "served");
    assert_eq!(status("2001:db8::b", server), "415");
    for from in ["2001:db8::a", "2001:db8::b"] {
        assert_eq!(
            status(from, server),
            "429",
            "{from}: its network has had two"
        );
    }
    assert_eq!(status("2001:db8:0:1::a", server), "415", "another network");
    assert_eq!(status("127.0.0.1", "127.0.0.1"), "415", "by IPv4");
    assert_eq!(status("127.0.0.2", "127.0.0.1"), "415", "another address");
    assert_eq!(status("127.0.0.1", "127.0.0.1"), "415");
    assert_eq!(status("127.0.0.1", "127.0.0.1"), "429");
    site.stop().assert_clean();
}
