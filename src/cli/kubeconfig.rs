//! `kubeconfig`: writes a new kubeconfig for a token file, or points an existing one at the proxy.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{ArgGroup, Args};

use crate::config;
use crate::kubeconfig::{
    self, Kubeconfig, KubeconfigError, NewKubeconfig, ProxyEndpoint, Rewritten, replace_file,
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
    /// The default namespace of the new kubeconfig.
    #[arg(long, short, value_name = "NAME", conflicts_with = "from")]
    pub namespace: Option<String>,
    /// Rewrite this kubeconfig, or a list of them like a:b:c, which become one. Users, contexts and
    /// everything else stay.
    #[arg(long, value_name = "FILE[:FILE…]")]
    pub from: Option<PathBuf>,
    /// The context whose cluster is reached through the proxy [default: the current context].
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub context: Option<String>,
    /// Write to this file instead of standard output. Only you can read it.
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
        return Kubeconfig::load(from)
            .and_then(|original| {
                kubeconfig::rewrite(&original, args.context.as_deref(), proxy, embed)
            })
            .map_err(KubeconfigCommandError::Rewrite);
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
    let written = match &args.output {
        Some(path) => replace_file(path, text.as_bytes(), 0o600),
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
