//! Other programs: run, and their output or the reason why they failed.

use std::env;
use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// What the program prints on stdout. Where it fails, the error has everything that it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command_output(command)?;
    finished(command, output)
}

/// [`output`] of a program that reads `input` from stdin.
pub(crate) fn output_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| not_started(command))?;
    // A program that fails before it has read everything closes the pipe. Its own words are better
    // than "broken pipe".
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    let printed = finished(command, output)?;
    written.transpose()?;
    Ok(printed)
}

/// What the program prints on both, stdout first, and whether it succeeded.
pub(crate) fn everything(command: &mut Command) -> Result<(bool, String)> {
    let output = command_output(command)?;
    Ok((output.status.success(), both(&output)))
}

/// Runs a program that prints to the terminal itself.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| not_started(command))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Whether a program is on the PATH.
pub(crate) fn exists(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn command_output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| not_started(command))
}

fn finished(command: &Command, output: Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{} failed: {}\n{}",
            shown(command),
            output.status,
            both(&output).trim_end()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} does not print UTF-8", shown(command)))
}

fn both(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

fn not_started(command: &Command) -> String {
    format!("cannot start {}", shown(command))
}

/// The command line, as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_tells_the_command_and_all_that_it_printed() {
        let error = output(&mut shell("echo out; echo err >&2; exit 3")).unwrap_err();
        let text = format!("{error:#}");
        for part in ["sh -c echo", "exit status: 3", "out\nerr"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn output_is_stdout_alone() {
        assert_eq!(
            output(&mut shell("echo out; echo err >&2")).unwrap(),
            "out\n"
        );
    }

    #[test]
    fn input_reaches_the_program() {
        let large = vec![b'x'; 200_000];
        let counted = output_with_input(&mut shell("wc -c"), &large).unwrap();
        assert_eq!(counted.trim(), "200000");
    }

    #[test]
    fn a_program_that_does_not_read_its_input_tells_its_own_error() {
        let large = vec![b'x'; 200_000];
        let error = output_with_input(&mut shell("echo no >&2; exit 1"), &large).unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-anywhere"));
        assert!(!exists("no-such-program-anywhere"));
        assert!(exists("sh"));
    }
}
