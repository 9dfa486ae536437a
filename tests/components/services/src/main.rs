//! Clients of services: `config = { role = "..." }` says of which. What a role checks is a test of its own in the matrix of
//! `cargo xtask test`; the component's exit code says it as well.
#![forbid(unsafe_code)]
extern crate rt;

mod clock;
mod devices;
mod files;
mod lines;
mod modules;
mod reports;

use std::fmt::Debug;
use std::process::ExitCode;

type Outcome = Result<(), String>;

fn text<E: Debug>(e: E) -> String {
    format!("{e:?}")
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

fn main() -> ExitCode {
    let role = role::of(rt::rom(parent::CONFIG_ROM));
    let (name, outcome) = match role {
        "clock" => ("clock", clock::check()),
        "broken" => ("broken", files::broken()),
        "driver" => ("driver", devices::driver()),
        "inner" => ("inner", devices::inner()),
        "late" => ("late", devices::late()),
        "renewed" => ("renewed", devices::renewed()),
        "rival" => ("rival", devices::rival()),
        "journal" => ("journal", lines::read()),
        "files" => ("files", files::read()),
        "modules" => ("modules", modules::show()),
        "report" => ("report", reports::report()),
        "watch" => ("watch", reports::watch()),
        "refusals" => ("refusals", modules::refusals()),
        _ => ("role", Err(format!("there is no role `{role}`"))),
    };
    match outcome {
        Ok(()) => println!("test services_{name} ... ok"),
        Err(ref why) => println!("test services_{name} ... FAILED: {why}"),
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
