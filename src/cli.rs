//! The command line: arguments in, exit code out.
//!
//! This file lists the commands and runs them; each command has its own file. Flags are spelled
//! like those of kube-apiserver. Only `cli` and `main` write to stdout and stderr.

mod admin;
pub mod check_config;
pub mod explain;
pub mod kubeconfig;
pub mod man;
mod runtime;
pub mod serve;
pub mod status;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use admin::AdminError;
pub use runtime::RuntimeError;
use runtime::runtime;

use crate::app::{self, ConfigSource, StartError, Stopped};
use crate::config::units;
#[cfg(feature = "demo")]
use crate::demo;
use crate::telemetry::{self, TelemetryError};

/// Replays creates that a ResourceQuota conflict refused, between a Kubernetes controller and
/// kube-apiserver.
#[derive(Debug, Parser)]
#[command(name = "kube-retry-proxy", version, propagate_version = true, after_help = after_help())]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The example of `demo`, in a build that has it.
const DEMO_EXAMPLE: &str = if cfg!(feature = "demo") {
    "\n  kube-retry-proxy demo                               see it work without a cluster"
} else {
    ""
};

fn after_help() -> String {
    format!(
        "\
Examples:{DEMO_EXAMPLE}
  kube-retry-proxy serve                              in a pod: it finds the cluster itself
  kube-retry-proxy serve --kubeconfig ~/.kube/config  on a workstation
  kube-retry-proxy status                             show how a running proxy is doing
  kube-retry-proxy check-config config.yaml           list every mistake in a file

Exit codes: 0 done, 1 failed, 2 wrong usage. A second signal stops serve at once, with code 1."
    )
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy.
    #[command(long_about = serve::LONG_ABOUT)]
    Serve(Box<serve::ServeArgs>),
    /// Show the status page of a running proxy in the terminal.
    Status(status::StatusArgs),
    /// Check a configuration file and report every mistake.
    CheckConfig(check_config::CheckConfigArgs),
    /// Explain why the proxy replays or relays an answer: a captured one, or those of the last
    /// creates. Or count the answers in an audit log of kube-apiserver.
    Explain(explain::ExplainArgs),
    /// Write a kubeconfig that sends clients through the proxy.
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Race creates against an embedded control plane, with and without the proxy.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Write a completion script for a shell to stdout.
    Completion(CompletionArgs),
    /// Write the manual pages into a directory.
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(kube-retry-proxy completion bash)
  kube-retry-proxy completion zsh > \"${fpath[1]}/_kube-retry-proxy\"
  kube-retry-proxy completion fish > ~/.config/fish/completions/kube-retry-proxy.fish")]
pub struct CompletionArgs {
    /// The shell that runs the script.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kube-retry-proxy demo --pods 1000 --concurrency 50
  kube-retry-proxy demo --output json | jq .
  kube-retry-proxy demo --serve                       then open the address that it prints")]
pub struct DemoArgs {
    /// How many pods to create.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pods: u32,
    /// How many creates to send at the same time.
    #[arg(long, value_name = "C", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub concurrency: u32,
    /// How to print the result.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Instead, serve a proxy under load until Ctrl-C, to look at its status page and to try the
    /// other commands.
    #[arg(long, conflicts_with_all = ["pods", "concurrency", "output"])]
    pub serve: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}

/// Why a command failed. clap handles wrong usage before a command runs.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration for `serve` has mistakes or lacks something.
    #[error("the proxy cannot be configured")]
    Serve(#[from] serve::ServeError),
    /// The kubeconfig could not be written.
    #[error("no kubeconfig was written")]
    Kubeconfig(#[from] kubeconfig::KubeconfigCommandError),
    /// A file could not be checked at all.
    #[error("the configuration cannot be checked")]
    CheckConfig(#[source] crate::config::file::FileError),
    /// Standard output is closed or full.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// The directory is missing or cannot be written to.
    #[error("the manual pages cannot be written")]
    Man(#[source] io::Error),
    /// The log level cannot be read.
    #[error("logging cannot be set up")]
    Logging(#[from] TelemetryError),
    /// The proxy could not be started.
    #[error("the proxy cannot start")]
    Start(#[from] StartError),
    /// The threads of the async runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[from] RuntimeError),
    /// The demo could not be run, or found something wrong.
    #[cfg(feature = "demo")]
    #[error("the demo failed")]
    Demo(#[from] demo::DemoError),
    /// The capture or the decisions could not be read.
    #[error("nothing to explain")]
    Explain(#[from] explain::ExplainCommandError),
    /// The running proxy did not answer.
    #[error("the proxy's status cannot be read")]
    Status(#[from] AdminError),
}

/// Parses the arguments of this process. Wrong usage exits with 2, help and version with 0.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| without_credentials(error).exit())
}

/// Removes passwords in URLs from the error, since clap repeats the wrong value.
fn without_credentials(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        if let Some(ContextValue::String(given)) = error.get(kind) {
            let shown = units::without_credentials(given).into_owned();
            error.insert(kind, ContextValue::String(shown));
        }
    }
    error
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Serve(args) => serve(args),
        Command::Status(args) => status::run(&args, &mut io::stdout().lock()),
        Command::CheckConfig(args) => {
            check_config::run(&args, &mut io::stdout().lock(), &mut io::stderr().lock())
        }
        Command::Explain(args) => explain::run(&args, &mut io::stdout().lock()),
        Command::Kubeconfig(args) => {
            let made = kubeconfig::make(&args)?;
            for warning in &made.warnings {
                // Nothing can be done when stderr is closed.
                let _ = writeln!(io::stderr(), "warning: {warning}");
            }
            kubeconfig::write(&args, &made.text, &mut io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo(&args, &mut io::stdout().lock()),
        Command::Completion(args) => completion(args.shell, &mut io::stdout().lock()),
        Command::Man(args) => {
            man::write(&args).map_err(CliError::Man)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Writes the script to a buffer first, because clap_complete panics when it cannot write.
fn completion(shell: Shell, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kube-retry-proxy", &mut script);
    out.write_all(&script).map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes text from outside safe for a terminal: it escapes control characters, line breaks
/// included.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            printable.extend(char.escape_debug())
        } else {
            printable.push(char)
        }
    }
    printable
}

/// Serves until a signal arrives. With `--config`, the configuration is reloaded when the file
/// changes.
fn serve(args: Box<serve::ServeArgs>) -> Result<ExitCode, CliError> {
    let config = serve::load(&args)?;
    telemetry::init(&config.logging)?;
    let source = args
        .config
        .is_some()
        .then(|| ConfigSource::new(move || Ok(serve::load(&args)?)));
    let runtime = runtime()?;
    let stopped = runtime.block_on(app::run(config, source));
    // After a second signal, tasks still run. This does not wait for them.
    runtime.shutdown_background();
    match stopped? {
        Stopped::Drained => Ok(ExitCode::SUCCESS),
        Stopped::Forced => Ok(ExitCode::FAILURE),
    }
}

#[cfg(feature = "demo")]
fn demo(args: &DemoArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    if args.serve {
        return serve_demo(out);
    }
    let report = runtime()?.block_on(demo::run(demo::Options {
        pods: args.pods,
        concurrency: args.concurrency,
    }))?;
    match args.output {
        Output::Table => write!(out, "{}", report.table()),
        Output::Json => writeln!(out, "{}", report.json()),
    }
    .map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "demo")]
fn serve_demo(out: &mut impl Write) -> Result<ExitCode, CliError> {
    let interrupted = async {
        // If signals cannot be received, the demo ends at once.
        let _ = tokio::signal::ctrl_c().await;
    };
    let mut printed = Ok(());
    let announce = |admin| {
        printed = writeln!(
            out,
            "Status page: http://{admin}/\nIn another terminal: kube-retry-proxy status --admin-address {admin}\nPress Ctrl-C to stop."
        )
        .and_then(|()| out.flush());
    };
    runtime()?.block_on(demo::serve(interrupted, announce))?;
    printed.map_err(CliError::Stdout)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::every;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_exits_with_two() {
        every(
            [
                &["serve", "--secure-port", "x"][..],
                &["nothing"],
                &["check-config"],
                #[cfg(feature = "demo")]
                &["demo", "--pods", "0"],
                &[],
            ],
            |wrong| {
                let error =
                    Cli::try_parse_from(["kube-retry-proxy"].iter().chain(wrong)).unwrap_err();
                assert_eq!(error.exit_code(), 2, "{wrong:?}");
            },
        );
    }

    #[test]
    fn every_flag_of_serve_has_an_environment_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve
            .get_arguments()
            .filter(|argument| argument.get_long().is_some())
        {
            let long = argument.get_long().unwrap();
            let expected = format!("KUBE_RETRY_PROXY_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str())
            );
            assert!(argument.get_help().is_some(), "{long}");
            assert!(argument.get_help_heading().is_some(), "{long}");
        }
    }
}
