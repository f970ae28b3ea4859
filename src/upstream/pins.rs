//! Pins a namespace to one of several servers or lanes, by rendezvous hashing. Pure.
//!
//! A namespace ranks all candidates by a hash of the two names and takes the first one that is
//! available. So all replicas of the proxy agree without communicating, in every build and on every
//! machine, and a lost server moves only its own namespaces. Thaler and Ravishankar, "Using
//! name-based mappings to increase hit rates", 1998.

/// The hash of a name. Ranking needs no more of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// FNV-1a, 64 bits. <http://www.isthe.com/chongo/tech/comp/fnv/>
    pub(super) fn of(name: &str) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        Self(name.bytes().fold(OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        }))
    }

    /// The rank of a candidate for this name. The highest rank wins.
    pub(super) fn rank(self, candidate: Self) -> u64 {
        // FNV gives similar hashes to names with the same end. Without mixing both hashes, servers
        // with similar addresses would rank alike for every namespace.
        mix(mix(self.0) ^ mix(candidate.0.rotate_left(32)))
    }

    /// The best candidate for this name. None if there is no candidate.
    pub(super) fn choose<T>(self, candidates: impl IntoIterator<Item = (Self, T)>) -> Option<T> {
        candidates
            .into_iter()
            .max_by_key(|(candidate, _)| (self.rank(*candidate), candidate.0))
            .map(|(_, value)| value)
    }
}

/// The finalizer of SplitMix64: each input bit changes half of the output bits.
/// <https://prng.di.unimi.it/splitmix64.c>
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SERVERS: [&str; 3] = ["10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.3:6443"];

    fn chosen<'a>(namespace: &str, servers: &[&'a str]) -> Option<&'a str> {
        Key::of(namespace).choose(servers.iter().map(|server| (Key::of(server), *server)))
    }

    #[test]
    fn the_choice_is_the_same_in_every_build() {
        assert_eq!(
            Key::of("").0,
            0xcbf2_9ce4_8422_2325,
            "FNV's own test vectors"
        );
        assert_eq!(Key::of("foobar").0, 0x8594_4171_f739_67e8);
        let choices: Vec<_> = [
            "argo",
            "default",
            "kube-system",
            "team-a",
            "team-b",
            "team-c",
        ]
        .map(|name| chosen(name, &SERVERS))
        .into();
        let expected = [0, 1, 2, 0, 0, 0].map(|index: usize| Some(SERVERS[index]));
        assert_eq!(
            choices, expected,
            "a change moves the namespaces of every running proxy"
        );
    }

    #[test]
    fn without_candidates_there_is_no_choice() {
        assert_eq!(chosen("argo", &[]), None);
        assert_eq!(chosen("argo", &SERVERS[..1]), Some(SERVERS[0]));
    }

    #[test]
    fn namespaces_with_similar_names_spread_evenly() {
        let alike: [&[&str]; 3] = [
            &SERVERS,
            &["0", "1", "2", "3"],
            &[
                "a.example:6443",
                "b.example:6443",
                "c.example:443",
                "d:1",
                "e:2",
            ],
        ];
        for servers in alike {
            for names in [
                "team-",
                "",
                "a-very-long-name-of-a-namespace-that-only-ends-differently-",
            ] {
                let mut counts = BTreeMap::new();
                for n in 0..3000 {
                    *counts
                        .entry(chosen(&format!("{names}{n}"), servers))
                        .or_insert(0_usize) += 1;
                }
                let even = 3000 / servers.len();
                assert!(
                    counts.len() == servers.len()
                        && counts.values().all(|count| count.abs_diff(even) < even / 5),
                    "{counts:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_of_the_servers_does_not_matter(
            namespace in "[a-z0-9-]{1,63}", servers in prop::collection::hash_set("[a-z0-9.]{1,12}:[0-9]{1,4}", 1..8),
        ) {
            let known: Vec<&str> = servers.iter().map(String::as_str).collect();
            let mut sorted = known.clone();
            sorted.sort_unstable();
            prop_assert_eq!(chosen(&namespace, &known), chosen(&namespace, &sorted));
        }

        #[test]
        fn a_lost_server_moves_only_its_own_namespaces(
            namespaces in prop::collection::vec("[a-z0-9-]{1,63}", 1..20),
            servers in prop::collection::hash_set("[a-z0-9.]{1,12}:[0-9]{1,4}", 2..8), lost: prop::sample::Index,
        ) {
            let all: Vec<&str> = servers.iter().map(String::as_str).collect();
            let lost = all[lost.index(all.len())];
            let remaining: Vec<&str> = all.iter().copied().filter(|server| *server != lost).collect();
            for namespace in &namespaces {
                let previous = chosen(namespace, &all);
                prop_assert!(previous == Some(lost) || chosen(namespace, &remaining) == previous);
            }
        }
    }
}
