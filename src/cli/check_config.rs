//! `check-config`: prints every mistake of a file on its own line, in the format of a compiler.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use crate::config::Mistake;
use crate::config::file::{self, FileError};
use crate::tls;

/// Arguments of `check-config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `FILE: ok`, or one line for each mistake, and exits with 1. Warnings about resources that can
never match, and about the files of client certificates if they can be read here, go to standard
error.

Example:
  kube-retry-proxy check-config config.yaml")]
pub struct CheckConfigArgs {
    /// The configuration file, or - for standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Prints the verdict to `out`, and warnings to `err`.
pub fn run(
    args: &CheckConfigArgs,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<ExitCode, CliError> {
    let path = args.file.display();
    let bytes = read(&args.file).map_err(|source| {
        let path = args.file.clone();
        CliError::CheckConfig(FileError::Read { path, source })
    })?;
    let line = |found: &Mistake| match found.line {
        Some(line) => format!("{path}:{line}: "),
        None => format!("{path}: "),
    };
    let checked = file::text(&bytes).and_then(|text| Ok((text, file::parse(text)?)));
    match checked {
        Ok((text, config)) => {
            for warning in file::warnings(text) {
                // Nothing can be done when stderr is closed.
                let _ = writeln!(err, "{}warning: {warning}", line(&warning));
            }
            for doubt in tls::doubts(&config.serving, &config.upstream) {
                let _ = writeln!(err, "{path}: warning: {doubt}");
            }
            writeln!(out, "{path}: ok").map_err(CliError::Stdout)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            let mut print = mistakes.0.iter().map(|mistake| {
                writeln!(out, "{}{mistake}", line(mistake)).map_err(CliError::Stdout)
            });
            print.try_for_each(|printed| printed)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The bytes of a file, or of standard input (`-`).
fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file != Path::new("-") {
        return fs::read(file);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: impl AsRef<[u8]>) -> (String, bool) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let mut err = Vec::new();
        let code = run(&CheckConfigArgs { file }, &mut out, &mut err).unwrap();
        out.append(&mut err);
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
        let binary = (
            "config.yaml:2: not a YAML document: expected text in UTF-8\n".into(),
            false,
        );
        assert_eq!(check(b"mode: Off\n\xff\n"), binary);
    }

    #[test]
    fn warns_of_resources_that_never_match_with_their_lines() {
        let doubtful = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n\
                        creates:\n  resources:\n  - resource: pods\n  - resource: deployments\n  \
                        except: [{resource: nodes}]\nrateLimit:\n  resources:\n  - group: core\n    resource: pods\n";
        let expected = "config.yaml: ok\n\
            config.yaml:6: warning: creates.resources[1]: never matches: write {group: apps, resource: deployments}\n\
            config.yaml:7: warning: creates.except[0]: never matches: nodes have no namespace, so no quota counts them\n\
            config.yaml:11: warning: rateLimit.resources[0]: never matches: the group of the core resources is '', not core\n";
        assert_eq!(check(doubtful), (expected.into(), true));
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let args = CheckConfigArgs {
            file: "/nowhere.yaml".into(),
        };
        assert!(matches!(
            run(&args, &mut Vec::new(), &mut Vec::new()),
            Err(CliError::CheckConfig(_))
        ));
    }
}
