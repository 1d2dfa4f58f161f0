//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::flags::RunArgs;
use crate::{api, run};

/// Keeps the Kubernetes Secrets of workloads true to AWS Secrets Manager.
#[derive(Parser, Debug)]
#[command(name = "bindery", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the operator
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

/// Runs what the command line asks for: 0 done, 1 failed, 2 wrong use (by clap).
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args).map_err(|error| error.to_string()),
        Command::Crds => print_crds().map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the log may not have started")]
            {
                eprintln!("bindery: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for crd in api::crds() {
        let yaml = serde_saphyr::to_string(&crd).map_err(std::io::Error::other)?;
        write!(out, "---\n{yaml}")?;
    }
    out.flush()
}
