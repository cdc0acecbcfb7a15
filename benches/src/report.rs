//! The report in Markdown: the machine, the ratios, and a table for each work.

use std::{fmt::Write as _, fs, process::Command, thread};

use crate::{
    Extent,
    ratios::{Judged, Target, judge},
    results::{Measured, Metric, Results, float, median},
    words::{self, Took, WordsRound},
    work::{Function, MIB, Work, size_of},
};

pub(crate) fn report(results: &Results, extent: Extent) -> String {
    let mut out = machine(extent);
    let judged = judge(results);
    if !judged.is_empty() {
        out.push_str(
            "\n### Ratios\n\
             Each value is a ratio of medians over all rounds, or a plain figure with its unit.\n\
             The range gives the lowest and the highest ratio of a single round.\n\n",
        );
        out.push_str("| ratio | value | range | target | result |\n|---|---|---|---|---|\n");
        out.extend(judged.iter().map(ratio));
    }
    for work in Work::all() {
        let measured: Vec<_> =
            results.measured.iter().filter(|measured| measured.work == work).collect();
        if !measured.is_empty() {
            out.push_str(&table(work, &measured));
        }
    }
    if !results.words.is_empty() {
        out.push_str(&words_table(&results.words));
    }
    out
}

fn ratio(judged: &Judged) -> String {
    let Judged { what, value, range, unit, target } = judged;
    let range =
        range.map_or_else(String::new, |(lowest, highest)| format!("{lowest:.2}–{highest:.2}"));
    let wanted = match target {
        Target::AtLeast(least) => format!("≥ {least}{unit}"),
        Target::AtMost(most) => format!("≤ {most}{unit}"),
    };
    let verdict = if target.is_met(*value) { "met" } else { "**missed**" };
    format!("| {what} | {value:.2}{unit} | {range} | {wanted} | {verdict} |\n")
}

fn table(work: Work, measured: &[&Measured]) -> String {
    let large = work.function == Function::Echo(MIB);
    let many = work.clients > 1;
    let mut out = format!("\n### {}\n| contestant | calls/s | ", work.title());
    out.push_str(if large { "MiB/s | " } else { "" });
    out.push_str(
        "p50 | p99 | CPU time per call (in the kernel), client + server | \
         peak memory, client + server |",
    );
    out.push_str(if many { " server memory per client |\n" } else { "\n" });
    out.push_str("|---|---|---|---|---|---|");
    out.push_str(if large || many { "---|\n" } else { "\n" });
    for measured in measured {
        let calls = measured.median(Metric::CallsPerSecond);
        let spread = 100.0 * measured.spread(Metric::CallsPerSecond);
        let _ = write!(
            out,
            "| {} | {} ± {spread:.0} % |",
            measured.contestant.name(),
            thousands(calls)
        );
        if large {
            let _ = write!(out, " {calls:.0} |");
        }
        let duration = |metric| duration(measured.median(metric));
        let mib = |bytes| float(bytes) / 1_048_576.0;
        let _ = write!(
            out,
            " {} | {} | {} ({}) + {} ({}) | {:.1} + {:.1} MiB |",
            duration(Metric::P50),
            duration(Metric::P99),
            duration(Metric::ClientCpu),
            duration(Metric::ClientKernel),
            duration(Metric::ServerCpu),
            duration(Metric::ServerKernel),
            mib(measured.client_peak),
            mib(measured.server_peak),
        );
        if many {
            let _ = write!(out, " {:.1} KiB |", measured.server_memory_per_client() / 1024.0);
        }
        out.push('\n');
    }
    out
}

fn words_table(rounds: &[WordsRound]) -> String {
    let mut out = "\n### count_words of 50 MB, in one process\n\
                   | method | wall-clock time | CPU time |\n|---|---|---|\n"
        .to_owned();
    let mut row = |name: &str, of: &dyn Fn(&WordsRound) -> Took| {
        let ms = |time: fn(&Took) -> f64| {
            1e3 * median(rounds.iter().map(|round| time(&of(round))).collect())
        };
        let _ = writeln!(
            out,
            "| {name} | {:.0} ms | {:.0} ms |",
            ms(|took| took.wall),
            ms(|took| took.cpu)
        );
    };
    row("plain loop on one core", &|round| round.plain);
    row("two threads with half of the text each, no calls", &|round| round.threads);
    for (at, size) in words::CHUNKS.into_iter().enumerate() {
        row(&format!("rpc-pool, two workers, {} per call", size_of(size)), &|round| {
            round.calls[at]
        });
    }
    out
}

/// Formats a duration in microseconds, or in nanoseconds if it is shorter than one.
fn duration(seconds: f64) -> String {
    let micros = seconds * 1e6;
    if micros < 1.0 {
        format!("{:.0} ns", micros * 1e3)
    } else if micros < 100.0 {
        format!("{micros:.1} µs")
    } else {
        format!("{} µs", thousands(micros))
    }
}

/// Formats a number with commas between groups of three digits: `1,234,567`.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns the description of the machine and the command line of the measurement.
fn machine(extent: Extent) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name")
        .unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|kib| kib.strip_suffix(" kB")?.parse::<u64>().ok());
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    format!(
        "{processor}, {} cores, {:.0} GiB, Linux {}, {}. {} rounds, {:?} per turn.\n\n\
         ```sh\n{}\n```\n",
        thread::available_parallelism().map_or(0, usize::from),
        float(memory.unwrap_or_default()) / 1_048_576.0,
        read("/proc/sys/kernel/osrelease").trim(),
        compiler(),
        extent.rounds,
        extent.turn,
        format!(
            "cargo run --release --manifest-path benches/Cargo.toml -- {}",
            arguments.join(" ")
        )
        .trim_end_matches(" -- "),
    )
}

/// Returns the name and the version of the compiler.
pub(crate) fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().ok();
    let version =
        output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    version.split(" (").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_separate_groups_of_three_digits() {
        let texts = [0.4, 999.0, 1000.0, 1_234_567.0].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_have_a_unit_that_fits() {
        let texts = [0.0, 123.4e-9, 1.5e-6, 99.94e-6, 1.5e-3].map(duration);
        assert_eq!(texts, ["0 ns", "123 ns", "1.5 µs", "99.9 µs", "1,500 µs"]);
    }
}
