//! Keys, certificates, tokens and kubeconfigs of a control plane.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use anyhow::Result;

use super::ControlPlane;
use crate::process::output;

impl ControlPlane {
    /// Creates the CA and the other keys. The apiservers' certificate is valid for loopback, the
    /// names of the Service kubernetes and `addresses`. The certificate of a front proxy is from
    /// another CA, as kubeadm makes it.
    pub(super) fn make_pki(&self, addresses: &[String]) -> Result<()> {
        let mut names =
            "IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc".to_owned();
        for address in addresses {
            names.push_str(",IP:");
            names.push_str(address);
        }
        let extensions = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n");
        fs::write(self.file("pki/apiserver.ext"), extensions)?;
        fs::write(
            self.file("pki/front-proxy-client.ext"),
            "extendedKeyUsage=clientAuth\n",
        )?;
        for command in [
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=controlplane-ca -keyout ca.key \
             -out ca.crt -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign,cRLSign",
            "req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout apiserver.key \
             -out apiserver.csr",
            "x509 -req -in apiserver.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
             -out apiserver.crt -extfile apiserver.ext",
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=front-proxy-ca \
             -keyout front-proxy-ca.key -out front-proxy-ca.crt \
             -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=critical,keyCertSign,cRLSign",
            "req -newkey rsa:2048 -nodes -subj /CN=front-proxy-client \
             -keyout front-proxy-client.key -out front-proxy-client.csr",
            "x509 -req -in front-proxy-client.csr -CA front-proxy-ca.crt -CAkey front-proxy-ca.key \
             -CAcreateserial -days 2 -out front-proxy-client.crt -extfile front-proxy-client.ext",
            "genrsa -out service-account.key 2048",
            "rsa -in service-account.key -pubout -out service-account.pub",
        ] {
            let mut openssl = Command::new("openssl");
            output(
                openssl
                    .args(command.split_whitespace())
                    .current_dir(self.file("pki")),
            )?;
        }
        Ok(())
    }

    /// Creates the tokens. `admin` has all rights and is exempt from priority and fairness; `user`
    /// is an ordinary client.
    pub(super) fn make_tokens(&self) -> Result<()> {
        let mut file = String::new();
        for (user, groups) in [("admin", ",system:masters"), ("user", "")] {
            let token: String = random::<16>()?
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            self.write_secret(&format!("{user}.token"), &format!("{token}\n"))?;
            file.push_str(&format!("{token},{user},{user}{groups}\n"));
        }
        self.write_secret("tokens.csv", &file)
    }

    pub(super) fn write_kubeconfig(&self, name: &str, server: &str, user: &str) -> Result<()> {
        let authority = self.file("pki/ca.crt");
        let token = self.file(&format!("{user}.token"));
        let text = format!(
            r#"apiVersion: v1
kind: Config
clusters:
  - name: controlplane
    cluster: {{ server: "{server}", certificate-authority: "{authority}" }}
users:
  - name: {user}
    user: {{ tokenFile: "{token}" }}
contexts:
  - name: controlplane
    context: {{ cluster: controlplane, user: {user} }}
current-context: controlplane
"#,
            authority = authority.display(),
            token = token.display(),
        );
        // kubectl warns about a kubeconfig that others can read.
        self.write_secret(name, &text)
    }

    /// Writes a file that only its owner can read.
    pub(super) fn write_secret(&self, name: &str, text: &str) -> Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file(name))?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
