//! `cargo xtask trace LOG --out FILE`: the kernel's trace in a log (key `trace` of a system file) as a Chrome trace, for
//! Perfetto (ui.perfetto.dev) or chrome://tracing. A CPU is a process, an EC a thread; thread 0 is what the CPU runs.
//!
//! [`Log`] is what the log holds, [`events`] makes slices and instants of it.

use crate::tree;
use abi::{ExtOp, Hypercall, Status, TraceKinds};
use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `trace`.
#[derive(clap::Args)]
pub struct Args {
    /// A log, such as build/logs/NAME@PLATFORM/serial.log.
    log: PathBuf,
    /// Where the trace goes.
    #[arg(long)]
    out: PathBuf,
}

/// Reads the log and writes the trace.
pub fn main(args: &Args) -> Result<ExitCode> {
    let log = Log::parse(&String::from_utf8_lossy(&tree::read_bytes(&args.log)?))?;
    let trace = json!({ "displayTimeUnit": "ns", "traceEvents": events(&log) });
    std::fs::write(&args.out, serde_json::to_vec(&trace)?)
        .with_context(|| format!("writing {}", args.out.display()))?;
    println!("{} records of {} CPUs, {} lost: {}", log.records.len(), log.cpus, log.lost, args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// A record of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    cpu: u64,
    time: u64,
    kind: TraceKinds,
    who: u64,
    args: [u64; 2],
}

/// What a log holds.
#[derive(Debug, PartialEq)]
struct Log {
    cpus: u64,
    hz: u64,
    records: Vec<Entry>,
    lost: u64,
}

impl Log {
    fn parse(text: &str) -> Result<Log> {
        let head = Regex::new(r"\btrace of (\d+) CPUs at (\d+) Hz")?;
        let head = head.captures_iter(text).last().context("no trace in this log: is there a key `trace`?")?;
        let after = &text[head.get(0).map_or(0, |m| m.end())..];
        let mut log = Log { cpus: head[1].parse()?, hz: head[2].parse()?, records: Vec::new(), lost: 0 };
        ensure!(log.hz > 0, "a clock of 0 Hz");
        let line = Regex::new(r"\btrace (\d+) (?:lost (\d+)|([0-9a-f]+)((?: [0-9a-f]+(?:,[0-9a-f]+){4})+))\s*$")?;
        for l in after.lines() {
            let Some(found) = line.captures(l) else { continue };
            if let Some(n) = found.get(2) {
                log.lost += n.as_str().parse::<u64>()?;
                continue;
            }
            let (cpu, mut time) = (found[1].parse()?, u64::from_str_radix(&found[3], 16)?);
            for record in found[4].split_whitespace() {
                let words: Vec<_> = record.split(',').map(|w| u64::from_str_radix(w, 16)).collect::<Result<_, _>>()?;
                let [dt, kind, who, a, b] = words[..] else { continue };
                time = time.wrapping_add(dt);
                let kind = u8::try_from(kind).ok().and_then(TraceKinds::from_number);
                let kind = kind.with_context(|| format!("{record}: no kind of event"))?;
                log.records.push(Entry { cpu, time, kind, who, args: [a, b] });
            }
        }
        log.records.sort_by_key(|r| r.time);
        Ok(log)
    }

    /// Microseconds since the first record.
    fn us(&self, time: u64) -> f64 {
        let first = self.records.first().map_or(0, |r| r.time);
        time.wrapping_sub(first) as f64 * 1e6 / self.hz as f64
    }
}

/// `0xf.4 get_state`, `0xb ctrl_sm`.
fn call_name(rdi: u64) -> String {
    let flags = (rdi >> 4) as u8 & 0xf;
    match Hypercall::from_number(rdi as u8 & 0xf) {
        Some(h) => format!("{h:?}"),
        None => ExtOp::from_flags(flags).map_or_else(|| format!("0xf.{flags:x}"), |o| format!("{o:?}")),
    }
}

/// The events of the trace.
fn events(log: &Log) -> Vec<Value> {
    let mut all = names(log);
    // By CPU: since when it runs what. By EC: the hypercall that it is in.
    let mut running: HashMap<u64, Entry> = HashMap::new();
    let mut calls: HashMap<u64, Entry> = HashMap::new();
    let slice = |name: String, begin: &Entry, tid: u64, end: u64, args: Value| {
        let dur = log.us(end) - log.us(begin.time);
        json!({ "name": name, "ph": "X", "ts": log.us(begin.time), "dur": dur, "pid": begin.cpu, "tid": tid, "args": args })
    };
    let ran = |r: &Entry, end| {
        let name = if r.who == 0 { "idle".to_string() } else { format!("EC {:x}", r.who) };
        slice(name, r, 0, end, json!({ "prio": r.args[0], "sc_of": format!("EC {:x}", r.args[1]) }))
    };
    for r in &log.records {
        match r.kind {
            TraceKinds::SCHEDULE => all.extend(running.insert(r.cpu, *r).map(|before| ran(&before, r.time))),
            TraceKinds::HYPERCALL => {
                // The one before had no status: a reply, or its end was not traced.
                all.extend(calls.insert(r.who, *r).map(|c| instant(log, &c, call_name(c.args[0]))));
            }
            TraceKinds::STATUS => match calls.remove(&r.who) {
                Some(c) => {
                    let status = Status::from_register(r.args[0]).map_or("?".into(), |s| format!("{s:?}"));
                    let args = json!({ "status": status, "rdi": format!("{:#x}", c.args[0]), "rsi": format!("{:#x}", c.args[1]) });
                    all.push(slice(call_name(c.args[0]), &c, c.who, r.time, args));
                }
                None => all.push(instant(log, r, "status".into())),
            },
            _ => all.push(instant(log, r, r.kind.iter_names().map(|(n, _)| n.to_lowercase()).collect())),
        }
    }
    all.extend(calls.values().map(|c| instant(log, c, call_name(c.args[0]))));
    let end = log.records.last().map_or(0, |r| r.time);
    all.extend(running.values().map(|r| ran(r, end)));
    all
}

fn instant(log: &Log, r: &Entry, name: String) -> Value {
    let args = json!({ "a": format!("{:#x}", r.args[0]), "b": format!("{:#x}", r.args[1]) });
    json!({ "name": name, "ph": "i", "s": "t", "ts": log.us(r.time), "pid": r.cpu, "tid": r.who, "args": args })
}

/// Names of processes and threads.
fn names(log: &Log) -> Vec<Value> {
    let threads: BTreeSet<_> = log.records.iter().map(|r| (r.cpu, r.who)).collect();
    let name = |kind: &str, pid: u64, tid: u64, name: String| json!({ "name": kind, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name } });
    let cpus = (0..log.cpus)
        .flat_map(|c| [name("process_name", c, 0, format!("CPU {c}")), name("thread_name", c, 0, "runs".to_string())]);
    let ecs = threads.into_iter().filter(|(_, t)| *t != 0);
    cpus.chain(ecs.map(|(c, t)| name("thread_name", c, t, format!("EC {t:x}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[core] trace 0 1 0,0,1,1,1\r\n[core] trace of 2 CPUs at 1000000000 Hz\r\n\
        [core] trace 0 lost 5\r\n\
        [core] trace 0 3e8 0,7,a1,14,a1 64,0,a1,51b,0 3e8,1,a1,1,0 0,0,a1,1,0\r\n\
        [x] something else\r\n\
        [core] trace 1 5dc 0,6,0,f0,0 1,7,0,0,0\r\n[core] end of the trace\r\n";

    #[test]
    fn records_come_from_the_last_trace_of_the_log_in_order_of_time() {
        let log = Log::parse(LOG).unwrap();
        assert_eq!((log.cpus, log.hz, log.lost, log.records.len()), (2, 1_000_000_000, 5, 6));
        assert_eq!(log.records.iter().map(|r| r.time).collect::<Vec<_>>(), [1000, 1100, 1500, 1501, 2100, 2100]);
        assert_eq!(log.records[2].kind, TraceKinds::INTERRUPT);
        assert!(Log::parse("nothing").unwrap_err().to_string().contains("no trace"));
        assert!(Log::parse("trace of 1 CPUs at 5 Hz\ntrace 0 1 0,1f,0,0,0").is_err());
    }

    #[test]
    fn a_hypercall_with_its_status_is_a_slice() {
        let all = events(&Log::parse(LOG).unwrap());
        let of = |ph: &str| all.iter().filter(|e| e["ph"] == ph).collect::<Vec<_>>();
        let call = of("X").into_iter().find(|e| e["name"] == "CtrlSm").unwrap();
        assert_eq!((&call["ts"], &call["dur"], &call["tid"]), (&json!(0.1), &json!(1.0), &json!(0xa1)));
        assert_eq!(call["args"]["status"], "Timeout");
        let runs: Vec<_> = of("X").into_iter().filter(|e| e["tid"] == 0).collect();
        assert_eq!(runs.len(), 2);
        assert!(runs.iter().any(|e| e["name"] == "EC a1" && e["dur"] == json!(1.1) && e["args"]["prio"] == 20));
        assert!(runs.iter().any(|e| e["name"] == "idle" && e["pid"] == 1));
        let instants: Vec<_> = of("i").iter().map(|e| e["name"].clone()).collect();
        assert_eq!(instants, ["interrupt", "IpcReply"]);
        assert!(of("M").iter().any(|e| e["args"]["name"] == "EC a1"));
    }

    #[test]
    fn extensions_have_names() {
        assert_eq!(call_name(ExtOp::GetState.identifier(5)), "GetState");
        assert_eq!(call_name(0xff), "0xf.f");
    }
}
