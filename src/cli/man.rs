//! `man`: the manual pages, for packagers. It is hidden, because `--help` tells users the same.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::Cli;

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory that takes a page for each command. It must exist.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Writes `kube-retry-proxy.1` and a page for each command that users see.
pub fn write(args: &ManArgs) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), &args.directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    #[test]
    fn every_command_that_help_shows_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        write(&ManArgs {
            directory: folder.path().to_owned(),
        })
        .unwrap();
        let entries = fs::read_dir(folder.path()).unwrap();
        let pages: BTreeSet<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let command = Cli::command();
        let shown = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        let mut expected: BTreeSet<_> = shown
            .map(|command| format!("kube-retry-proxy-{}.1", command.get_name()))
            .collect();
        expected.insert("kube-retry-proxy.1".to_owned());
        assert_eq!(pages, expected);
        let page = fs::read_to_string(folder.path().join("kube-retry-proxy-serve.1")).unwrap();
        assert!(page.contains(r"\fB\-\-upstream\fR"), "{page}");
    }
}
