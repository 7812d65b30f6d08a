//! What the doctor says, for people and for programs.
//!
//! ```text
//! FAULT    io_uring is forbidden: kernel.io_uring_disabled is 2 ...                    io-uring
//!          mend   sudo tuning/tune.sh apply --yes sysctl
//!          whose  this host's
//!          worth  Weir starts
//! ```

use serde_json::{json, Value};

use super::whose::{self, whose};
use super::{mib, Checked, Host, Level, Mend, Outcome, Plan, Worth};
use weir_host::{list_of_cpus, Place};

/// Columns before what is said.
const INDENT: usize = 9;
/// Where the stages are: installed, or in the source.
const TUNE_PLACES: [&str; 2] = [
    "/usr/lib/weir/tuning/tune.sh",
    "/usr/share/weir/tuning/tune.sh",
];

/// The command line of a stage: with the same cores, for the same host.
fn stage_command(host: &Host, plan: &Plan, stage: &str) -> String {
    let installed = TUNE_PLACES
        .iter()
        .find(|place| host.is_this() && host.has(place));
    let mut line = format!(
        "sudo {} apply --yes {stage}",
        installed.unwrap_or(&"tuning/tune.sh")
    );
    if stage == "limits" {
        line.push_str(" --user \"$USER\"");
    }
    let is_about_cores = matches!(stage, "irq" | "steering" | "power" | "isolate");
    if plan.are_cores_chosen && is_about_cores {
        line.push_str(&format!(" --cores {}", list_of_cpus(&plan.cores)));
    } else if stage == "isolate" {
        line.push_str(" --cores LIST");
    }
    line
}

/// What to do, and where.
fn mend_text(host: &Host, plan: &Plan, id: &str, mend: &Mend) -> String {
    let place = Place::of(host);
    if let Some(text) = whose::mend_in(place, id, mend) {
        return text;
    }
    let is_sent =
        place == Place::Host && *mend == Mend::Stage("sysctl") && host.is_sysctl_read_only();
    let on = match is_sent {
        true => "on the host (/proc/sys is read-only here): ",
        false => whose::on(place, id),
    };
    match mend {
        Mend::Stage(stage) => format!("{on}{}", stage_command(host, plan, stage)),
        Mend::Command(text) | Mend::Advice(text) => format!("{on}{text}"),
    }
}

/// What it is worth, and how that is known.
fn worth_parts(worth: Worth) -> (&'static str, &'static str) {
    match worth {
        Worth::Measured(text) => ("measured", text),
        Worth::Sourced(text) => ("sourced", text),
        Worth::Plain(text) => ("plain", text),
    }
}

/// Lines of at most `width` columns, all but the first behind `indent` spaces.
fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for (n, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if n > 0 && column + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// Counts of findings by level, worst first; how many checks were fine, and how many were not possible.
fn counts(checked: &[Checked]) -> ([(Level, usize); 3], usize, usize) {
    let of = |wanted: Level| {
        let is =
            |one: &&Checked| matches!(one.outcome, Outcome::Found { level, .. } if level == wanted);
        (wanted, checked.iter().filter(is).count())
    };
    let fine = checked
        .iter()
        .filter(|one| matches!(one.outcome, Outcome::Good(_)));
    let unknown = checked
        .iter()
        .filter(|one| matches!(one.outcome, Outcome::Unknown(_)));
    let levels = [Level::Fault, Level::Warning, Level::Note].map(of);
    (levels, fine.count(), unknown.count())
}

/// For people: what was found, worst first; with `all` also what is fine. A line for each fine check and
/// what is said of the others within `width` columns, commands on one line.
pub fn text(host: &Host, plan: &Plan, checked: &[Checked], all: bool, width: usize) -> String {
    let place = Place::of(host);
    let mut out = format!(
        "Weir on cores {} of {} CPUs, shards: {}, {} each; this is a {}\n",
        list_of_cpus(&plan.cores),
        host.online().len(),
        plan.shards,
        mib(plan.arena_bytes + plan.ingress_bytes),
        place.as_str(),
    );
    for wanted in [Level::Fault, Level::Warning, Level::Note] {
        for one in checked {
            let Outcome::Found {
                level,
                says,
                mend,
                worth,
            } = &one.outcome
            else {
                continue;
            };
            if *level != wanted {
                continue;
            }
            let word = match level {
                Level::Fault => "FAULT",
                other => other.as_str(),
            };
            let (basis, worth) = worth_parts(*worth);
            let worth = match basis {
                "plain" => worth.to_owned(),
                basis => format!("{basis}: {worth}"),
            };
            let says = wrapped(&format!("{says} [{}]", one.id), INDENT, width);
            let worth = wrapped(&worth, INDENT + 7, width);
            let is_text =
                matches!(mend, Mend::Advice(_)) || whose::mend_in(place, one.id, mend).is_some();
            let mend = mend_text(host, plan, one.id, mend);
            let mend = match is_text {
                true => wrapped(&mend, INDENT + 7, width),
                // To be copied.
                false => mend,
            };
            let whose = whose(place, one.id);
            out.push_str(&format!(
                "\n{word:<8} {says}\n         mend   {mend}\n         whose  {whose}\n         worth  {worth}\n"
            ));
        }
    }
    if all {
        out.push('\n');
        for one in checked {
            match &one.outcome {
                Outcome::Good(is) => out.push_str(&format!("ok       {:<16} {is}\n", one.id)),
                unknown @ Outcome::Unknown(_) => {
                    let why = whose::unknown(host, place, unknown).unwrap_or_default();
                    out.push_str(&format!("unknown  {:<16} {why}\n", one.id));
                }
                Outcome::Found { .. } => {}
            }
        }
    }
    let (levels, fine, unknown) = counts(checked);
    let levels = levels.map(|(level, n)| {
        let plural = if n == 1 { "" } else { "s" };
        format!("{n} {}{plural}", level.as_str())
    });
    let more = if all || unknown == 0 {
        ""
    } else {
        " (--all says why)"
    };
    out.push_str(&format!(
        "\n{} checks: {fine} fine, {}, {unknown} not known{more}\n",
        checked.len(),
        levels.join(", "),
    ));
    out
}

/// For programs: all checks, in their order.
pub fn json(host: &Host, plan: &Plan, checked: &[Checked]) -> Value {
    let place = Place::of(host);
    let check = |one: &Checked| match &one.outcome {
        Outcome::Good(is) => json!({ "id": one.id, "outcome": "ok", "says": is }),
        unknown @ Outcome::Unknown(_) => {
            let why = whose::unknown(host, place, unknown);
            json!({ "id": one.id, "outcome": "unknown", "says": why })
        }
        Outcome::Found {
            level,
            says,
            mend,
            worth,
        } => {
            let (basis, worth) = worth_parts(*worth);
            let (kind, stage) = match mend {
                Mend::Stage(stage) => ("stage", Some(*stage)),
                Mend::Command(_) => ("command", None),
                Mend::Advice(_) => ("advice", None),
            };
            json!({
                "id": one.id, "outcome": level.as_str(), "says": says,
                "mend": { "kind": kind, "stage": stage, "text": mend_text(host, plan, one.id, mend), "whose": whose(place, one.id) },
                "worth": { "basis": basis, "text": worth },
            })
        }
    };
    let (levels, fine, unknown) = counts(checked);
    json!({
        "place": place.as_str(),
        "cores": list_of_cpus(&plan.cores),
        "shards": plan.shards,
        "checks": checked.iter().map(check).collect::<Vec<_>>(),
        "faults": levels[0].1, "warnings": levels[1].1, "notes": levels[2].1,
        "ok": fine, "unknown": unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_lines_within_the_width() {
        let text = "one two three four five six a-word-that-is-longer-than-a-line seven";
        let lines = wrapped(text, 2, 16);
        assert_eq!(lines.split_whitespace().collect::<Vec<_>>().join(" "), text);
        let long = lines.lines().filter(|line| line.chars().count() > 16);
        assert_eq!(long.count(), 1, "{lines}");
        assert!(lines.lines().skip(1).all(|line| line.starts_with("  ")));
    }
}
