//! `check-config`: prints every mistake of a file on its own line, in the format of a compiler.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use crate::config::file::{self, FileError};

/// Arguments of `check-config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `FILE: ok`, or one line for each mistake, and exits with 1.

Example:
  kube-retry-proxy check-config config.yaml")]
pub struct CheckConfigArgs {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Prints the verdict to `out`.
pub fn run(args: &CheckConfigArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    match file::load(&args.file) {
        Ok(_) => {
            writeln!(out, "{}: ok", args.file.display()).map_err(CliError::Stdout)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(FileError::Mistakes { path, source }) => {
            let print = |out: &mut dyn Write| -> io::Result<()> {
                for mistake in &source.0 {
                    match mistake.line {
                        Some(line) => writeln!(out, "{}:{line}: {mistake}", path.display())?,
                        None => writeln!(out, "{}: {mistake}", path.display())?,
                    }
                }
                Ok(())
            };
            print(out).map_err(CliError::Stdout)?;
            Ok(ExitCode::FAILURE)
        }
        Err(error @ FileError::Read { .. }) => Err(CliError::CheckConfig(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (String, bool) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let code = run(&CheckConfigArgs { file }, &mut out).unwrap();
        let printed = String::from_utf8(out)
            .unwrap()
            .replace(&format!("{}/", directory.path().display()), "");
        (printed, code == ExitCode::SUCCESS)
    }

    #[test]
    fn says_ok_or_prints_a_line_for_each_mistake() {
        assert_eq!(check(""), ("config.yaml: ok\n".into(), true));
        let wrong =
            "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\nmode: 1\ndrian: {}\n";
        let expected = "config.yaml:3: mode: 1: expected Off or Observe or Enforce\n\
                        config.yaml:4: drian: unknown field; did you mean 'drain'?\n";
        assert_eq!(check(wrong), (expected.into(), false));
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let args = CheckConfigArgs {
            file: "/nowhere.yaml".into(),
        };
        assert!(matches!(
            run(&args, &mut Vec::new()),
            Err(CliError::CheckConfig(_))
        ));
    }
}
