//! Rules about two fields. They are checked for the file alone, and again after the flags have been
//! applied.

use super::mistake::{Mistake, Problem};
use super::{Ambiguous, Config, ServingConfig};

/// A request remembers the servers that it has tried in one 64-bit word.
pub(crate) const MAX_SERVERS: usize = 64;

const NEVER_WAIT: &str = "must not list events, leases, bindings, resourcequotas or anything of authentication.k8s.io or authorization.k8s.io: their creates never wait";
const TAKES_OUT: &str =
    "must not take out all of an item of creates.resources; remove that item instead";

/// A broken rule, and the two fields that it is about.
pub(crate) struct BrokenRule {
    /// The mistake, without a line. Its path is the first field.
    pub(crate) mistake: Mistake,
    /// The path of the second field.
    pub(crate) other: &'static str,
}

/// Every rule that `config` breaks.
pub(crate) fn broken(config: &Config) -> Vec<BrokenRule> {
    let Config {
        upstream,
        serving,
        replay,
        creates,
        ..
    } = config;
    let (certificate, key) = (
        serving.tls_cert_file.is_some(),
        serving.tls_private_key_file.is_some(),
    );
    let (client_ca, front_proxy_cert, front_proxy_key) = (
        serving.client_ca_file.is_some(),
        upstream.front_proxy_cert_file.is_some(),
        upstream.front_proxy_key_file.is_some(),
    );
    let is_plain = |url: &http::Uri| url.scheme() == Some(&http::uri::Scheme::HTTP);
    let servers = &upstream.servers;
    let twice = (1..servers.len()).any(|index| servers[..index].contains(&servers[index]));
    let rules = [
        (
            upstream.url.is_some() && !servers.is_empty(),
            "upstream.servers",
            "upstream.url",
            "cannot be given beside upstream.url",
        ),
        (
            upstream.discover.is_some() && !servers.is_empty(),
            "upstream.discover",
            "upstream.servers",
            "cannot be given beside upstream.servers",
        ),
        (
            twice,
            "upstream.servers",
            "upstream.servers",
            "must not name a server twice",
        ),
        (
            servers.len() > MAX_SERVERS,
            "upstream.servers",
            "upstream.servers",
            "must not name more than 64 servers",
        ),
        (
            certificate && !key,
            "serving.tlsCertFile",
            "serving.tlsPrivateKeyFile",
            "needs serving.tlsPrivateKeyFile beside it",
        ),
        (
            key && !certificate,
            "serving.tlsPrivateKeyFile",
            "serving.tlsCertFile",
            "needs serving.tlsCertFile beside it",
        ),
        (
            client_ca && !(front_proxy_cert && front_proxy_key),
            "serving.clientCaFile",
            "upstream.frontProxyCertFile",
            "needs upstream.frontProxyCertFile and upstream.frontProxyKeyFile beside it, because only with them kube-apiserver believes for whom the proxy asks",
        ),
        (
            front_proxy_cert && !(front_proxy_key && client_ca),
            "upstream.frontProxyCertFile",
            "serving.clientCaFile",
            "needs upstream.frontProxyKeyFile and serving.clientCaFile beside it",
        ),
        (
            front_proxy_key && !(front_proxy_cert && client_ca),
            "upstream.frontProxyKeyFile",
            "serving.clientCaFile",
            "needs upstream.frontProxyCertFile and serving.clientCaFile beside it",
        ),
        (
            (client_ca || front_proxy_cert || front_proxy_key)
                && upstream.addresses().iter().any(is_plain),
            "serving.clientCaFile",
            "upstream.url",
            "needs https in upstream.url and upstream.servers, because without TLS there is no certificate that kube-apiserver could believe",
        ),
        (
            same_port(serving, config),
            "admin.bindAddress",
            "serving.securePort",
            "has the port of serving.securePort on the same address; they must differ",
        ),
        (
            replay.base_delay > replay.max_delay,
            "replay.baseDelay",
            "replay.maxDelay",
            "must not exceed replay.maxDelay",
        ),
        (
            replay.complete_generate_name && replay.ambiguous == Ambiguous::Relay,
            "replay.completeGenerateName",
            "replay.ambiguous",
            "has no effect without replay.ambiguous: Resolve",
        ),
        (
            creates.max_body > creates.max_buffered,
            "creates.maxBody",
            "creates.maxBuffered",
            "must not exceed creates.maxBuffered",
        ),
    ];
    let broken = rules.into_iter().filter(|(broken, ..)| *broken);
    let fields = broken.map(|(_, path, other, rule)| (path.to_owned(), other, rule));
    let listed = creates.listed_though_they_never_wait().map(|index| {
        let path = format!("creates.resources[{index}]");
        (path, "creates.resources", NEVER_WAIT)
    });
    let excepted = creates.exceptions_that_take_out_an_item().map(|index| {
        let path = format!("creates.except[{index}]");
        (path, "creates.resources", TAKES_OUT)
    });
    let all = fields.chain(listed).chain(excepted);
    all.map(|(path, other, rule)| BrokenRule {
        mistake: Mistake {
            line: None,
            path,
            problem: Problem::Rule(rule),
        },
        other,
    })
    .collect()
}

fn same_port(serving: &ServingConfig, config: &Config) -> bool {
    let (ours, admin) = (serving.bind_address, config.admin.bind_address);
    serving.secure_port != 0
        && serving.secure_port == admin.port()
        && (ours == admin.ip() || ours.is_unspecified() || admin.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_completed_only_where_ambiguous_creates_are_resolved() {
        let mut config = Config::default();
        config.replay.complete_generate_name = true;
        let paths = |config: &Config| -> Vec<_> {
            let broken = broken(config).into_iter();
            broken.map(|rule| (rule.mistake.path, rule.other)).collect()
        };
        let expected = ("replay.completeGenerateName".to_owned(), "replay.ambiguous");
        assert_eq!(paths(&config), [expected]);
        config.replay.ambiguous = Ambiguous::Resolve;
        assert_eq!(paths(&config), []);
    }
}
