//! Which of several places a namespace belongs to: rendezvous hashing, pure.
//!
//! Every namespace ranks all places by a hash of the two names and takes the first that is left. So
//! all replicas of the proxy agree without talking, in every build and on every machine, and a
//! place that is lost moves only the namespaces that it had. Thaler and Ravishankar, "Using
//! name-based mappings to increase hit rates", 1998.

/// A name as far as ranking goes.
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

    /// How well `place` suits this name; the highest wins.
    pub(super) fn rank(self, place: Self) -> u64 {
        // FNV leaves names that end alike close together: both are mixed, lest neighbours'
        // addresses rank alike for everybody.
        mix(mix(self.0) ^ mix(place.0.rotate_left(32)))
    }

    /// The best of `places` for this name; None if there is none.
    pub(super) fn choose<T>(self, places: impl IntoIterator<Item = (Self, T)>) -> Option<T> {
        places
            .into_iter()
            .max_by_key(|(place, _)| (self.rank(*place), place.0))
            .map(|(_, value)| value)
    }
}

/// The finalizer of SplitMix64: each bit of the input changes half of the output's. <https://prng.di.unimi.it/splitmix64.c>
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

    fn place<'a>(namespace: &str, servers: &[&'a str]) -> Option<&'a str> {
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
        let chosen: Vec<_> = [
            "argo",
            "default",
            "kube-system",
            "team-a",
            "team-b",
            "team-c",
        ]
        .map(|name| place(name, &SERVERS))
        .into();
        let expected = [0, 1, 2, 0, 0, 0].map(|index: usize| Some(SERVERS[index]));
        assert_eq!(
            chosen, expected,
            "a change moves the namespaces of every running proxy"
        );
    }

    #[test]
    fn nothing_to_choose_from_is_none() {
        assert_eq!(place("argo", &[]), None);
        assert_eq!(place("argo", &SERVERS[..1]), Some(SERVERS[0]));
    }

    #[test]
    fn namespaces_spread_evenly_however_alike_the_names() {
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
                        .entry(place(&format!("{names}{n}"), servers))
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
        fn replicas_agree_in_whatever_order_they_know_the_servers(
            namespace in "[a-z0-9-]{1,63}", servers in prop::collection::hash_set("[a-z0-9.]{1,12}:[0-9]{1,4}", 1..8),
        ) {
            let known: Vec<&str> = servers.iter().map(String::as_str).collect();
            let mut sorted = known.clone();
            sorted.sort_unstable();
            prop_assert_eq!(place(&namespace, &known), place(&namespace, &sorted));
        }

        #[test]
        fn a_lost_server_moves_only_its_own_namespaces(
            namespaces in prop::collection::vec("[a-z0-9-]{1,63}", 1..20),
            servers in prop::collection::hash_set("[a-z0-9.]{1,12}:[0-9]{1,4}", 2..8), lost: prop::sample::Index,
        ) {
            let all: Vec<&str> = servers.iter().map(String::as_str).collect();
            let lost = all[lost.index(all.len())];
            let left: Vec<&str> = all.iter().copied().filter(|server| *server != lost).collect();
            for namespace in &namespaces {
                let before = place(namespace, &all);
                prop_assert!(before == Some(lost) || place(namespace, &left) == before);
            }
        }
    }
}
