//! A distributor with its admin API on TCP, for looking at the page:
//!
//! ```text
//! cargo run --example control -- 127.0.0.1:3001 0123456789abcdef    # then open http://127.0.0.1:3001/
//! weir analyzer --id a1 --weight 0.4 & weir emitter --rate 5000 --duration 600
//! ```

use std::error::Error;
use std::time::Duration;

use weir::certificate::Stamp;
use weir::control::health_check::HttpAnalyzer;
use weir::control::listener::AdminAt;
use weir::control::token::Token;
use weir::control::{serve, Settings};
use weir::engine::OnSlow;
use weir::shard::{Config, Distributor};

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let mut args = std::env::args().skip(1);
    let admin = args.next().unwrap_or("127.0.0.1:3001".into());
    let token = args.next().unwrap_or("0123456789abcdef".into());
    let mut settings = Settings::new(Stamp::now());
    settings.admin = Some(AdminAt::Tcp(admin.parse()?));
    settings.token = Some(Token::new(&token)?);
    settings.health_interval = Duration::from_secs(1);
    settings.slow_start = Duration::from_secs(5);
    for (number, endpoint) in args.enumerate() {
        let analyzer = HttpAnalyzer::new(&format!("http-{}", number + 1), &endpoint, 0.2)?;
        settings.http_analyzers.push(analyzer);
    }
    let distributor = Distributor::start(Config {
        emitters: "127.0.0.1:18080".parse()?,
        analyzers: "127.0.0.1:18081".parse()?,
        shards: 2,
        cores: Vec::new(),
        arena_bytes: 64 << 20,
        batch_bytes: 128 << 10,
        ingress_bytes: 4 << 20,
        frame_bytes_max: 1 << 20,
        window_bytes: 16 << 20,
        window_messages: 1 << 24,
        partial_bytes_max: 64 << 20,
        on_slow: OnSlow::Spill,
        latency_budget: Duration::from_micros(500),
        zero_copy_bytes: 0,
        zero_copy_loopback: false,
        ack_timeout: Duration::from_secs(30),
        farewell: Duration::from_secs(1),
        peer_timeout: Duration::from_secs(10),
        connections_max: 0,
        dialect: None,
        without: Vec::new(),
        instance: 1,
    })?;
    let _running = serve(distributor.operator(), settings)?;
    println!("http://{admin}/");
    distributor.join()?;
    Ok(())
}
