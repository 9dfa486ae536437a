//! x
use anyhow::Result;
use std::process::ExitCode;
#[derive(clap::Args)]
pub struct Args {}
pub fn main(_: &Args) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) }
