//! Weir beside software of others, all under the same load, in turn: A B C, C B A, B C A, ...

use std::io;

use crate::child::{System, SystemArgs};
use crate::net::pin;
use crate::peers::Peer;
use crate::progress::Progress;
use crate::report::{median_min_max, sign, Cores, Draft, OutputArgs, Series};
use crate::rounds::order;
use crate::run::{run_once, Outcome, Scenario};
use crate::scenario::{Load, ShapeArgs};
use crate::series::series;
use crate::sink::Dialect;

/// Arguments of `weir-bench compare`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// A system, again for each: 'weir [args]', 'weir@FORMAT [args]' (see load --format), 'relay', nginx, haproxy-tcp, haproxy-log, rsyslog, syslog-ng,
    /// or a command with {emitters} and {analyzers} in it [default: all of these]. Ratios are to the first
    #[arg(long = "system", value_name = "SYSTEM")]
    pub systems: Vec<String>,
    /// Loads to compare under
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "firehose,trickle"
    )]
    pub scenario: Vec<Load>,
    /// Rounds that count: A B C, C B A, B C A, A C B, ... In 2 n rounds each of n systems comes to each
    /// place twice (of two systems in any 2 rounds once). Six are the fewest in which a sign test can tell
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=sign::RUNS_MAX))]
    pub rounds: u32,
    /// Rounds before them that do not
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=sign::RUNS_MAX))]
    pub warm_up: u32,
    /// What Weir's analyzers speak
    #[arg(long, value_enum, default_value = "compact")]
    pub dialect: Dialect,
    #[command(flatten)]
    pub shape: ShapeArgs,
    #[command(flatten)]
    pub system: SystemArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// One system in one scenario: its runs, or why there are none.
pub struct Column {
    pub spec: String,
    system: Option<System>,
    scenario: Option<Scenario>,
    outcomes: Vec<Outcome>,
    failed: Option<String>,
}

impl Column {
    fn new(spec: &str, args: &CompareArgs, load: Load, size: usize, weights: &[f64]) -> Self {
        let parsed =
            System::parse(spec, &args.system, size).and_then(|s| s.ensure_exists().map(|()| s));
        let mut column = Self {
            spec: spec.to_owned(),
            system: None,
            scenario: None,
            outcomes: Vec::new(),
            failed: None,
        };
        match parsed {
            Ok(mut system) => {
                let mut scenario = args.shape.scenario(load, size, weights, args.dialect);
                system.fit(&mut scenario.load);
                (column.system, column.scenario) = (Some(system), Some(scenario));
            }
            Err(e) => column.failed = Some(e.to_string()),
        }
        column
    }

    /// Nothing more is tried with a system that failed once.
    fn run(&mut self, cores: &[usize], counts: bool) {
        let (Some(system), Some(scenario), None) = (&self.system, &self.scenario, &self.failed)
        else {
            return;
        };
        match run_once(system, scenario, cores) {
            Ok(outcome) if counts => self.outcomes.push(outcome),
            Ok(_) => {}
            Err(e) => self.failed = Some(e.to_string()),
        }
    }

    /// CPU per message as a multiple of another's, round by round: the machine drifts by more than systems differ.
    pub fn ratios_to(&self, base: &Column) -> Vec<f64> {
        let pairs = self.outcomes.iter().zip(&base.outcomes);
        pairs
            .map(|(own, base)| own.cpu_ns_per_message / base.cpu_ns_per_message)
            .collect()
    }

    /// How much later its 99th percentile is than another's (ms), round by round.
    pub fn p99_ms_beyond(&self, base: &Column) -> Vec<f64> {
        let pairs = self.outcomes.iter().zip(&base.outcomes);
        pairs
            .map(|(own, base)| (own.p99_ns as f64 - base.p99_ns as f64) / 1e6)
            .collect()
    }

    /// It keeps its promise, if it made one.
    fn is_honest(&self) -> bool {
        let promises = self.system.as_ref().is_some_and(|s| s.does().has_acks);
        !promises || self.failed.is_none() && self.outcomes.iter().all(Outcome::is_exact)
    }

    fn median(&self, value: impl Fn(&Outcome) -> f64) -> f64 {
        let values: Vec<f64> = self.outcomes.iter().map(value).collect();
        median_min_max(&values).0
    }

    fn series(&self, name: &str) -> io::Result<Option<Series>> {
        let (Some(system), Some(scenario)) = (&self.system, &self.scenario) else {
            return Ok(Some(Series {
                scenario: name.into(),
                label: self.spec.clone(),
                failed: self.failed.clone(),
                ..Series::default()
            }));
        };
        let runs = self.outcomes.iter().map(Outcome::to_run);
        Ok(Some(Series {
            runs: runs.collect::<io::Result<_>>()?,
            failed: self.failed.clone(),
            ..series(name, &self.spec, system, &scenario.load, &scenario.sink)
        }))
    }
}

/// All rounds of all scenarios. False when a system that promises delivery did not deliver.
pub fn run(args: &CompareArgs) -> io::Result<bool> {
    run_with(args, "compare", "the same work for each", |_| {})
}

/// The same under another name; `judge` sees the columns of each load.
pub fn run_with(
    args: &CompareArgs,
    kind: &str,
    title: &str,
    mut judge: impl FnMut(&[Column]),
) -> io::Result<bool> {
    let cores = Cores {
        system: &args.system.system_cores,
        load: &args.system.load_cores,
    };
    let mut draft = args.output.begin(kind, title, cores)?;
    weir::out!("{}", draft.heading());
    pin(&args.system.load_cores)?;
    let is_honest = measure(args, &mut draft, &mut judge)?;
    args.output.finish(draft, is_honest)?;
    Ok(is_honest)
}

/// All rounds of all scenarios, into a report that others go on with.
pub fn measure(
    args: &CompareArgs,
    draft: &mut Draft,
    mut judge: impl FnMut(&[Column]),
) -> io::Result<bool> {
    let all = ["weir", "relay"]
        .into_iter()
        .chain(Peer::ALL.map(Peer::name));
    let systems: Vec<String> = match args.systems.is_empty() {
        true => all.map(str::to_owned).collect(),
        false => args.systems.clone(),
    };
    let mut is_honest = true;
    for (size, weights) in args.shape.variants() {
        for load in &args.scenario {
            let columns = systems
                .iter()
                .map(|spec| Column::new(spec, args, *load, size, &weights));
            let mut columns: Vec<Column> = columns.collect();
            let named = args.shape.scenario(*load, size, &weights, args.dialect);
            run_rounds(args, &mut columns, named.name);
            let name = args.shape.name_of(&named);
            weir::out!(
                "\n{name}: {}, {} analyzers",
                named.load.describe(),
                weights.len()
            );
            print_table(&columns, &weights);
            judge(&columns);
            is_honest &= columns.iter().all(Column::is_honest);
            for column in &columns {
                draft.report.series.extend(column.series(&name)?);
            }
        }
    }
    Ok(is_honest)
}

fn run_rounds(args: &CompareArgs, columns: &mut [Column], scenario: &str) {
    let rounds = args.warm_up + args.rounds;
    let mut progress = Progress::new(rounds as usize * columns.len());
    for round in 0..rounds {
        // The first round that counts is the first of the scheme.
        let counted = round.saturating_sub(args.warm_up);
        for place in order(counted, columns.len()) {
            let column = &mut columns[place];
            progress.step(&format!("{scenario}, round {}: {}", round + 1, column.spec));
            column.run(&args.system.system_cores, round >= args.warm_up);
        }
    }
}

fn print_table(columns: &[Column], weights: &[f64]) {
    weir::out!(
        "{:<14} {:>10} {:>19} {:>9} {:>6} {:>10} {:>8} {:>8} {:>8} {:>9} {:>6} {:>9}  {:<11} {:<7} {:<4}",
        "system",
        "CPU ns/msg",
        "ratio (lowest..hi.)",
        "ksoftirqd",
        "user",
        "msg/s",
        "p50 ms",
        "p99 ms",
        "load p99",
        "lost",
        "twice",
        "share off",
        "balances",
        "weights",
        "ACKs"
    );
    let base = columns.first();
    for column in columns {
        if !column.outcomes.is_empty() {
            print_row(column, base, weights);
        }
        if let Some(failed) = &column.failed {
            weir::out!("{:<14} failed: {failed}", column.spec);
        }
    }
}

fn print_row(column: &Column, base: Option<&Column>, weights: &[f64]) {
    let Some(does) = column.system.as_ref().map(System::does) else {
        return;
    };
    let ratios = base.map_or(Vec::new(), |base| column.ratios_to(base));
    let ratio = match ratios.is_empty() {
        true => "-".to_owned(),
        false => {
            let (median, lowest, highest) = median_min_max(&ratios);
            format!("{median:.2} ({lowest:.2}..{highest:.2})")
        }
    };
    let ms = |value: f64| match value {
        ns if ns > 0.0 => format!("{:.3}", ns / 1e6),
        _ => "-".to_owned(),
    };
    let seen: Option<Vec<f64>> = column
        .outcomes
        .iter()
        .map(|o| o.ksoftirqd_ns_per_message)
        .collect();
    let ksoftirqd = seen.map_or("-".to_owned(), |ns| format!("{:.1}", median_min_max(&ns).0));
    let sent: u64 = column.outcomes.iter().map(|o| o.sent).sum();
    let lost: u64 = column.outcomes.iter().map(|o| o.lost).sum();
    let lost = match lost {
        0 => "0".to_owned(),
        n if n * 1000 < sent => format!("{n}"),
        n => format!("{:.2} %", n as f64 / sent as f64 * 100.0),
    };
    weir::out!(
        "{:<14} {:>10.1} {ratio:>19} {ksoftirqd:>9} {:>5.0}% {:>10.0} {:>8} {:>8} {:>8} {lost:>9} {:>6} {:>7.2} %  {:<11} {:<7} {:<4}",
        column.spec,
        column.median(|o| o.cpu_ns_per_message),
        column.median(|o| o.user_share) * 100.0,
        column.median(|o| o.messages_per_second),
        ms(column.median(|o| o.p50_ns as f64)),
        ms(column.median(|o| o.p99_ns as f64)),
        ms(column.median(|o| o.load_lag_p99_ns.unwrap_or(0) as f64)),
        column.outcomes.iter().map(|o| o.duplicates).sum::<u64>(),
        column.median(|o| share_off(&o.shares, weights)) * 100.0,
        does.unit,
        if does.has_weights { "yes" } else { "no" },
        if does.has_acks { "yes" } else { "no" },
    );
    if !ratios.is_empty() && base.is_some_and(|b| !std::ptr::eq(b, column)) {
        let test = sign::told(ratios.len(), sign::sign_test(&ratios));
        weir::out!("{:<14} ratio: sign test {test}", "");
    }
    if let Some(warning) = column.outcomes.iter().find_map(Outcome::lag_warning) {
        weir::out!("{:<14} {warning}", "");
    }
    for note in column.outcomes.iter().flat_map(|o| &o.notes) {
        weir::out!("{:<14} {note}", "");
    }
    let foreign: u64 = column.outcomes.iter().map(|o| o.foreign).sum();
    if foreign > 0 {
        weir::out!("{:<14} foreign or corrupted messages: {foreign}", "");
    }
}

/// Largest distance of an analyzer's share from what its weight says, of the whole.
fn share_off(shares: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let off = shares
        .iter()
        .zip(weights)
        .map(|(share, weight)| (share - weight / total).abs());
    off.fold(0.0, f64::max)
}
