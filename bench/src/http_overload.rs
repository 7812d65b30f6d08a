//! Twice what fits: packets over HTTP for an analyzer that ACKs at a limited rate.
//!
//! ```text
//! POSTs at twice the rate -> distributor -> analyzer ACKs `--rate` messages a second
//!       <- 202: must be delivered    <- 503: not taken in
//! ```

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use weir::sink::Dialect;
use weir::sink::{encode_ack, encode_first_weight};

use crate::check::SequenceSet;
use crate::child::{System, SystemArgs, UnderTest};
use crate::http::{post_whole, HttpClient};
use crate::net::{connect_within, pin};
use crate::report::{
    bytes, count, median_min_max, named, Better, Cores, Messages, OutputArgs, Parameter, Run,
    Series,
};

const MIB: f64 = 1024.0 * 1024.0;
/// What is still under way when the offer ends has this long.
const DRAIN_PATIENCE: Duration = Duration::from_secs(20);
const ANALYZER_PATIENCE: Duration = Duration::from_secs(5);
/// How often memory is read.
const SAMPLE: Duration = Duration::from_millis(500);
/// Memory may differ by this much between the first and the last sixth.
const GROWTH_MAX: f64 = 1.02;

/// Arguments of `weir-bench http-overload`.
#[derive(Debug, Clone, clap::Args)]
pub struct HttpOverloadArgs {
    /// Messages per second that the analyzer ACKs; twice as many are offered
    #[arg(long, default_value_t = 20_000)]
    pub rate: u64,
    /// Messages of a packet
    #[arg(long, default_value_t = 50)]
    pub packet: u64,
    /// Clients, a connection each
    #[arg(long, default_value_t = 4)]
    pub clients: u64,
    /// Seconds of offer
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    taken: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
}

/// Runs and reports. False when a message that was taken is missing, or memory grew, or nothing was
/// refused.
pub fn run(args: &HttpOverloadArgs) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let title = "Twice what fits, over HTTP";
    let mut draft = args.output.begin("http-overload", title, cores)?;
    weir::out!("{}", draft.heading());
    pin(&args.system.load_cores)?;
    // Half a second's worth fits, so that the first second is like the last.
    let spec = format!("weir --http {{http}} --window-messages {}", args.rate / 2);
    let system = System::parse(&spec, &args.system, 256)?;
    system.ensure_exists()?;
    let child = system.start(&args.system.system_cores)?;
    let (told, stop) = (Told::default(), AtomicBool::new(false));
    let (memory, received) = std::thread::scope(|scope| {
        let analyzer = connect_within(child.analyzers, ANALYZER_PATIENCE)?;
        let reader = scope.spawn(|| analyze(analyzer, args.rate, &stop));
        wait_until_taken(child.http)?;
        let (http, told) = (child.http, &told);
        let clients: Vec<_> = (0..args.clients)
            .map(|client| scope.spawn(move || offer(args, client, http, told)))
            .collect();
        let memory = watch(&child, Duration::from_secs(args.seconds));
        for client in clients {
            client.join().map_err(|_| panicked())??;
        }
        stop.store(true, Ordering::Relaxed);
        let received = reader.join().map_err(|_| panicked())??;
        Ok::<_, io::Error>((memory?, received))
    })?;
    let (taken, refused) = (told.taken.into_inner(), told.refused.into_inner());
    let other = told.other.into_inner();
    let stopped = child.stop(|| std::thread::sleep(Duration::from_millis(5)))?;

    let sixth = (memory.len() / 6).max(1);
    let median = |samples: &[f64]| median_min_max(samples).0;
    // The very first are those of a process that has not touched its memory yet.
    let first = median(&memory[sixth / 2..sixth + sixth / 2]);
    let last = median(&memory[memory.len() - sixth..]);
    let delivered = received.distinct().saturating_sub(1); // of the packet that was sent to see it up
    let missing = (taken * args.packet).saturating_sub(delivered);
    weir::out!(
        "overload    {} messages/s offered to an analyzer that takes {}, {} s",
        2 * args.rate,
        args.rate,
        args.seconds
    );
    weir::out!(
        "packets     {taken} taken (202), {refused} refused (503), {other} otherwise; a packet is {} messages",
        args.packet
    );
    weir::out!(
        "delivered   {delivered} of {} messages taken, missing {missing}, twice {}",
        taken * args.packet,
        received.duplicates()
    );
    weir::out!(
        "VmRSS       {:.1} MiB in the first sixth, {:.1} in the last, {:.1} at most",
        first / MIB,
        last / MIB,
        memory.iter().copied().fold(0.0, f64::max) / MIB
    );
    weir::out!("last line   {}", stopped.last_line);
    let held = missing == 0 && other == 0 && refused > 0 && last <= first * GROWTH_MAX;
    let mut run = Run {
        wall_seconds: args.seconds as f64,
        messages: Messages {
            sent: taken * args.packet,
            received: delivered,
            lost: missing,
            twice: received.duplicates(),
            foreign: 0,
        },
        values: named([
            ("packets taken (202)", count(taken, Better::Neither)),
            ("packets refused (503)", count(refused, Better::Neither)),
            ("packets answered otherwise", count(other, Better::Lower)),
            ("resident, first sixth", bytes(first)),
            ("resident, last sixth", bytes(last)),
        ]),
        notes: vec![stopped.last_line],
        ..Run::default()
    };
    if let Some(counters) = stopped.counters {
        counters.put_into(&mut run);
    }
    draft.report.series.push(Series {
        scenario: "http-overload".into(),
        label: "weir".into(),
        parameters: named([
            ("messages/s ACKed", Parameter::Whole(args.rate)),
            ("messages/s offered", Parameter::Whole(2 * args.rate)),
            ("messages of a packet", Parameter::Whole(args.packet)),
            ("clients", Parameter::Whole(args.clients)),
        ]),
        runs: vec![run],
        notes: vec!["sent: what a 202 was given for".into()],
        ..Series::default()
    });
    args.output.finish(draft, held)?;
    Ok(held)
}

fn panicked() -> io::Error {
    io::Error::other("a thread panicked")
}

fn packet(first: u64, count: u64) -> Vec<u8> {
    let messages: Vec<String> = (first..first + count)
        .map(|number| format!("{{\"message\":\"{number}\"}}"))
        .collect();
    let body = format!(
        "{{\"emitterId\":\"bench\",\"messages\":[{}]}}",
        messages.join(",")
    );
    post_whole("", body.as_bytes())
}

/// A packet of message 0 is taken: the analyzer is up.
fn wait_until_taken(http: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + ANALYZER_PATIENCE;
    let mut client = HttpClient::connect(http)?;
    while client.ask(&packet(0, 1))? != 202 {
        if Instant::now() > deadline {
            return Err(io::Error::other("the analyzer does not come up"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Offers its part of twice the rate. Each number is of one packet that was taken, or was not sent.
fn offer(args: &HttpOverloadArgs, client: u64, http: SocketAddr, told: &Told) -> io::Result<()> {
    let mut connection = HttpClient::connect(http)?;
    let per_second = (2 * args.rate) as f64 / (args.packet * args.clients) as f64;
    let began = Instant::now();
    // Numbers are dense for each client: sequence sets are bitmaps.
    let mut next = 1 + client;
    let mut offered = 0.0;
    while began.elapsed() < Duration::from_secs(args.seconds) {
        let first = 1 + (next - 1) * args.packet;
        match connection.ask(&packet(first, args.packet))? {
            202 => {
                told.taken.fetch_add(1, Ordering::Relaxed);
                next += args.clients;
            }
            503 => {
                told.refused.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                told.other.fetch_add(1, Ordering::Relaxed);
            }
        }
        offered += 1.0;
        let due = Duration::from_secs_f64(offered / per_second);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(())
}

fn watch(child: &UnderTest, time: Duration) -> io::Result<Vec<f64>> {
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        samples.push(child.resident_bytes()? as f64);
        std::thread::sleep(SAMPLE);
    }
    Ok(samples)
}

/// A compact analyzer that ACKs `rate` messages a second, until `stop` and nothing more comes.
fn analyze(mut stream: TcpStream, rate: u64, stop: &AtomicBool) -> io::Result<SequenceSet> {
    stream.write_all(encode_first_weight(Dialect::Compact, 1.0).as_bytes())?;
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut set = SequenceSet::default();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    let (mut read, mut acked, mut last) = (0u64, 0u64, Instant::now());
    let mut came = Instant::now();
    // ACKs that may be sent now; never more than a tenth of a second's worth.
    let mut allowance = 0.0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(set),
            Ok(len) => {
                bytes.extend_from_slice(&buffer[..len]);
                came = Instant::now();
            }
            Err(error) if crate::net::is_would_block(&error) => {}
            Err(error) => return Err(error),
        }
        read += take_frames(&mut bytes, &mut set);
        let rate = rate as f64;
        allowance = (allowance + last.elapsed().as_secs_f64() * rate).min(rate / 10.0);
        last = Instant::now();
        let count = (read - acked).min(allowance as u64);
        if count > 0 {
            acked += count;
            allowance -= count as f64;
            stream.write_all(encode_ack(Dialect::Compact, acked).as_bytes())?;
        }
        let is_over = stop.load(Ordering::Relaxed) && acked == read;
        if is_over && came.elapsed() > Duration::from_secs(1) || came.elapsed() > DRAIN_PATIENCE {
            return Ok(set);
        }
    }
}

/// Counts the whole frames, by the number that each message says.
fn take_frames(bytes: &mut Vec<u8>, set: &mut SequenceSet) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some(word) = bytes[at..].first_chunk::<4>() {
        let len = u32::from_be_bytes(*word) as usize;
        let Some(frame) = bytes.get(at..at + len) else {
            break;
        };
        let said: Option<u64> = serde_json::from_slice::<serde_json::Value>(&frame[5..])
            .ok()
            .and_then(|message| message["message"].as_str()?.parse().ok());
        if let Some(number) = said {
            set.insert(number);
        }
        count += 1;
        at += len;
    }
    bytes.drain(..at);
    count
}
