//! `kubeconfig`: writes a new kubeconfig for a token file, or points an existing one at the proxy.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{ArgGroup, Args};

use crate::config;
use crate::kubeconfig::{
    self, Kubeconfig, KubeconfigError, NewKubeconfig, ProxyEndpoint, Rewritten, Warning,
    replace_file,
};
use crate::tls::{self, TlsError};

const EXAMPLES: &str = "\
Examples:
  A new kubeconfig for the service account of a pod:
    kube-retry-proxy kubeconfig --server https://127.0.0.1:8443 --certificate-authority ca.crt \\
      --token-file /var/run/secrets/kubernetes.io/serviceaccount/token --output kubeconfig
  Your own kubeconfig, with its cluster reached through the proxy:
    kube-retry-proxy kubeconfig --server https://127.0.0.1:8443 --certificate-authority ca.crt \\
      --from ~/.kube/config --output kubeconfig
  The same for a client that does not read token files (fabric8, client-node, kr8s):
    kube-retry-proxy kubeconfig --server https://127.0.0.1:8443 --certificate-authority ca.crt \\
      --token-file /var/run/secrets/kubernetes.io/serviceaccount/token --embed-token \\
      --output kubeconfig";

/// Arguments of `kubeconfig`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("credentials").args(["token_file", "from"]).required(true),
    after_help = EXAMPLES
)]
pub struct KubeconfigArgs {
    /// The URL of the proxy. The proxy's certificate must be valid for its host.
    #[arg(long, value_name = "URL", value_parser = parse_server)]
    pub server: String,
    /// The CA that verifies the proxy's certificate [default: the CAs of the client's system].
    #[arg(long, value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// Write a new kubeconfig whose user authenticates with this token file.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Put the token itself into the kubeconfig, for clients that do not read token files.
    ///
    /// Nothing renews it there, so run the command again before it expires. With --from, this is
    /// for the users of the cluster that have a tokenFile.
    #[arg(long)]
    pub embed_token: bool,
    /// The proxy has `serving.clientCaFile`, so that users with a client certificate work. Without
    /// this, the command warns of them.
    #[arg(long, requires = "from")]
    pub client_certificates: bool,
    /// The default namespace of the new kubeconfig.
    #[arg(long, short, value_name = "NAME", conflicts_with = "from")]
    pub namespace: Option<String>,
    /// Rewrite this kubeconfig, or a list of them like a:b:c, which become one. Users, contexts and
    /// everything else stay.
    #[arg(long, value_name = "FILE[:FILE…]", value_parser = parse_from)]
    pub from: Option<PathBuf>,
    /// The context whose cluster is reached through the proxy [default: the current context].
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub context: Option<String>,
    /// Write to this file instead of standard output (-). Only you can read it. It must not be a
    /// file of --from.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Why no kubeconfig was written.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigCommandError {
    /// The file of `--certificate-authority` cannot be read or is not a CA.
    #[error("--certificate-authority cannot be used")]
    Authority(#[source] TlsError),
    /// The kubeconfig of `--from` could not be rewritten.
    #[error("--from cannot be used")]
    Rewrite(#[source] KubeconfigError),
    /// The result would replace what it was made from, and with it the way around the proxy.
    #[error("--output {} is a file of --from: expected another one", path.display())]
    Overwrites {
        /// The path of `--output`.
        path: PathBuf,
    },
    /// The new kubeconfig could not be made.
    #[error("the kubeconfig cannot be made")]
    Make(#[source] KubeconfigError),
    /// The result could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The path of the file, or `-` for standard output.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// Makes the kubeconfig, without writing it.
pub fn make(args: &KubeconfigArgs) -> Result<Rewritten, KubeconfigCommandError> {
    let ca = args
        .certificate_authority
        .as_deref()
        .map(tls::read_authority)
        .transpose()
        .map_err(KubeconfigCommandError::Authority)?;
    let proxy = ProxyEndpoint {
        server: &args.server,
        ca: ca.as_deref(),
    };
    let embed = args.embed_token.then(SystemTime::now);
    if let Some(from) = &args.from {
        let original = Kubeconfig::load(from).map_err(KubeconfigCommandError::Rewrite)?;
        if let Some(path) = file_of(args)
            && original.has_file(path)
        {
            let path = path.to_owned();
            return Err(KubeconfigCommandError::Overwrites { path });
        }
        let mut rewritten = kubeconfig::rewrite(&original, args.context.as_deref(), proxy, embed)
            .map_err(KubeconfigCommandError::Rewrite)?;
        if args.client_certificates {
            let works = |warning: &Warning| matches!(warning, Warning::ClientCertificate { .. });
            rewritten.warnings.retain(|warning| !works(warning));
        }
        return Ok(rewritten);
    }
    let default = config::SelfSignedConfig::default().token_file;
    let new = NewKubeconfig {
        token_file: args.token_file.as_ref().unwrap_or(&default),
        namespace: args.namespace.as_deref(),
        embed,
    };
    kubeconfig::new_kubeconfig(proxy, new).map_err(KubeconfigCommandError::Make)
}

/// Writes the result to the file of `--output` or to stdout.
pub fn write(
    args: &KubeconfigArgs,
    text: &str,
    stdout: &mut impl Write,
) -> Result<(), KubeconfigCommandError> {
    let written = match file_of(args) {
        Some(path) => write_file(path, text.as_bytes()),
        None => stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush()),
    };
    let path = || args.output.clone().unwrap_or_else(|| PathBuf::from("-"));
    written.map_err(|source| KubeconfigCommandError::Write {
        path: path(),
        source,
    })
}

/// The file of `--output`. None: standard output.
fn file_of(args: &KubeconfigArgs) -> Option<&Path> {
    args.output
        .as_deref()
        .filter(|path| *path != Path::new("-"))
}

/// Replaces a file, and the file that a symbolic link leads to, as a redirection of a shell does. A
/// device or a pipe cannot be replaced.
fn write_file(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => replace_file(&fs::canonicalize(path)?, text, 0o600),
        Ok(there) if !there.is_dir() => OpenOptions::new().write(true).open(path)?.write_all(text),
        _ => replace_file(path, text, 0o600),
    }
}

fn parse_from(text: &str) -> Result<PathBuf, &'static str> {
    match text {
        "-" => Err("expected a file, because paths in a kubeconfig are relative to it"),
        _ => Ok(text.into()),
    }
}

fn parse_server(text: &str) -> Result<String, String> {
    super::serve::parse_url(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::SelfSignedConfig;

    fn args(args: &[&str]) -> Result<KubeconfigArgs, clap::Error> {
        let cli = Cli::try_parse_from(["kube-retry-proxy", "kubeconfig"].iter().chain(args))?;
        let Command::Kubeconfig(args) = cli.command else {
            unreachable!()
        };
        Ok(args)
    }

    #[test]
    fn a_new_kubeconfig_goes_to_a_private_file_or_to_stdout() {
        let directory = tempfile::tempdir().unwrap();
        tls::self_signed(&SelfSignedConfig {
            directory: Some(directory.path().to_owned()),
            ..Default::default()
        })
        .unwrap();
        let (ca, output) = (
            directory.path().join("ca.crt"),
            directory.path().join("kubeconfig"),
        );
        let server = [
            "--server",
            "https://127.0.0.1:8443",
            "--certificate-authority",
            ca.to_str().unwrap(),
            "--token-file",
            "/token",
        ];
        let to_stdout = args(&server).unwrap();
        let made = make(&to_stdout).unwrap();
        let mut stdout = Vec::new();
        write(&to_stdout, &made.text, &mut stdout).unwrap();
        assert_eq!(String::from_utf8(stdout.clone()).unwrap(), made.text);

        let to_file =
            args(&[&server[..], &["--output", output.to_str().unwrap()]].concat()).unwrap();
        write(&to_file, &made.text, &mut Vec::new()).unwrap();
        assert_eq!(fs::read(&output).unwrap(), stdout);
        assert_eq!(
            fs::metadata(&output).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn the_result_never_replaces_its_source() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let source = "current-context: c\nclusters: [{name: c, cluster: {server: h}}]\n\
                      contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: t}}]\n";
        fs::write(path("a"), source).unwrap();
        fs::write(path("old"), "old").unwrap();
        std::os::unix::fs::symlink(path("a"), path("to-a")).unwrap();
        std::os::unix::fs::symlink(path("old"), path("to-old")).unwrap();
        fs::hard_link(path("a"), path("same")).unwrap();
        let made = |from: &str, output: &str| {
            let args = args(&["--server", "https://h", "--from", from, "-o", output]).unwrap();
            make(&args).map(|made| {
                let mut stdout = Vec::new();
                write(&args, &made.text, &mut stdout).unwrap();
                stdout
            })
        };
        let list = format!("{}:{}", path("none"), path("a"));
        let dotted = path("./a");
        for (from, output) in [
            (path("a"), path("a")),
            (path("a"), dotted),
            (path("a"), path("to-a")),
            (path("a"), path("same")),
            (path("to-a"), path("a")),
            (list.clone(), path("a")),
        ] {
            let refused = made(&from, &output).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("--output {output} is a file of --from: expected another one")
            );
            assert_eq!(fs::read_to_string(path("a")).unwrap(), source);
        }
        assert_eq!(made(&path("a"), &path("to-old")).unwrap(), b"");
        assert!(
            fs::read_to_string(path("old"))
                .unwrap()
                .contains("https://h")
        );
        assert!(fs::symlink_metadata(path("to-old")).unwrap().is_symlink());
        let stdout = String::from_utf8(made(&list, "-").unwrap()).unwrap();
        assert!(stdout.contains("https://h"), "{stdout}");
        assert_eq!(made(&list, "/dev/null").unwrap(), b"");
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        args(&["--server", "https://h", "--from", "-"]).unwrap_err();
    }

    #[test]
    fn a_ca_file_with_a_private_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        tls::self_signed(&SelfSignedConfig {
            directory: Some(directory.path().to_owned()),
            ..Default::default()
        })
        .unwrap();
        let both = directory.path().join("both.pem");
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        fs::write(&both, read("ca.crt") + &read("tls.key")).unwrap();
        let args = args(&[
            "--server",
            "https://h",
            "--token-file",
            "t",
            "--certificate-authority",
            both.to_str().unwrap(),
        ])
        .unwrap();
        assert!(matches!(
            make(&args),
            Err(KubeconfigCommandError::Authority(_))
        ));
    }

    #[test]
    fn exactly_one_of_a_token_file_and_an_original_is_required() {
        args(&["--server", "https://h"]).unwrap_err();
        args(&["--server", "https://h", "--token-file", "t", "--from", "f"]).unwrap_err();
        args(&[
            "--server",
            "https://h",
            "--token-file",
            "t",
            "--context",
            "c",
        ])
        .unwrap_err();
        args(&["--server", "https://h/path", "--token-file", "t"]).unwrap_err();
        let missing = make(&args(&["--server", "https://h", "--from", "/nowhere/config"]).unwrap())
            .unwrap_err();
        assert_eq!(missing.to_string(), "--from cannot be used");
    }
}
