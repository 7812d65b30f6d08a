//! A port that takes both: who speaks TLS, and who does not.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use weir_testkit::numbered::numbered;
use weir_testkit::{until, Authority};

use super::client::Manner;
use super::{distributor, Payloads};

#[test]
fn who_is_silent_at_first_is_let_in_without_tls() {
    let authority = Authority::new("both");
    let server = authority.pair("localhost").flags();
    let (distributor, analyzer) = distributor(
        &format!("{server} --emitters-tls optional"),
        Payloads::Numbered,
    );
    let mut silent = TcpStream::connect(distributor.emitters).expect("connected");
    // A byte that both may begin with: what follows tells.
    let mut slow = TcpStream::connect(distributor.emitters).expect("connected");
    slow.write_all(&[22]).expect("written");
    let manner = Manner::new(&authority.ca(), None);
    let mut secured = manner.connect(distributor.emitters).expect("let in");
    secured.send(&numbered(0, 60)).expect("let in");
    std::thread::sleep(Duration::from_millis(1500));
    silent.write_all(&numbered(1, 60)).expect("let in");
    drop((silent, slow));
    secured.finish().expect("the end");
    until("both messages", || analyzer.read() == 2);
    drop(analyzer);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 2);
}
