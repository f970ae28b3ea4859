//! Runs other programs and returns their output, or an error with the output of a failed program.

use std::env;
use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// The program's stdout. If it fails, the error contains everything it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command_output(command)?;
    finished(command, output)
}

/// As [`output`], with `input` on stdin.
pub(crate) fn output_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| not_started(command))?;
    // A program that fails early closes its stdin. Its own message is better than "broken pipe".
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    let printed = finished(command, output)?;
    written.transpose()?;
    Ok(printed)
}

/// Stdout followed by stderr, and whether the program succeeded.
pub(crate) fn everything(command: &mut Command) -> Result<(bool, String)> {
    let output = command_output(command)?;
    Ok((output.status.success(), both(&output)))
}

/// Runs a program that prints directly to the terminal.
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

/// The command line for error messages.
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
    fn an_error_has_the_command_and_its_whole_output() {
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
    fn an_error_has_the_output_of_a_program_that_ignores_its_input() {
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
