//! Analyzers over HTTP.

use crate::common::until;
use crate::rig::{packet, Client, HttpAnalyzer, Rig};

#[test]
fn packets_arrive_whole_with_their_headers() {
    let rig = Rig::start("--shards 1");
    let analyzer = HttpAnalyzer::start("a1", "ok");
    rig.up(&analyzer, 1.0);
    let mut client = Client::connect(rig.http);
    for first in 0..100 {
        let answer = client.post_packet(&packet("web-1", first * 10..first * 10 + 7));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    until("all are there", || analyzer.received().len() == 100);
    let received = analyzer.received();
    assert!(received.iter().all(|packet| packet.messages.len() == 7));
    assert!(received.iter().all(|packet| packet.emitter == "web-1"));
    assert!(received
        .iter()
        .all(|packet| packet.content_type == "application/json"));
    let reports = rig.stop();
    assert_eq!(reports[0].balance.acked, 700);
}
