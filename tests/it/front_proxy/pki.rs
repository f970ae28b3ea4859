//! Certificates of clients with any subject. rcgen can write an attribute only once into a subject,
//! so what is signed is written here.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, DnValue, IsCa, KeyPair,
    PublicKeyData, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

pub const CN: &[u8] = &[0x55, 4, 3];
pub const O: &[u8] = &[0x55, 4, 10];
/// 1.3.6.1.4.1.57683.2
pub const UID: &[u8] = &[0x2b, 6, 1, 4, 1, 0x83, 0xc2, 0x53, 2];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const PURPOSES: &[u8] = &[0x55, 0x1d, 0x25];
const UTF8: u8 = 12;

pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    name: String,
}

/// What a client authenticates with.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// A certificate in the making. The defaults are good.
#[derive(Clone)]
pub struct Leaf {
    pub subject: Vec<(&'static [u8], Vec<u8>)>,
    /// Seconds from now.
    pub begins: i64,
    pub ends: i64,
    /// The last arcs of `1.3.6.1.5.5.7.3`: 1 for servers, 2 for clients. None: any purpose.
    pub purposes: Option<Vec<u8>>,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        Self::signed(name, None, |_| {})
    }

    /// A CA below this one.
    pub fn below(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::signed(name, Some(self), edit)
    }

    fn signed(name: &str, by: Option<&Self>, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let value = DnValue::Utf8String(name.to_owned());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, value);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = match by {
            Some(by) => CertifiedIssuer::signed_by(params, key, &by.issuer),
            None => CertifiedIssuer::self_signed(params, key),
        };
        Self {
            issuer: issuer.unwrap(),
            name: name.to_owned(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A client's certificate with this common name and these groups.
    pub fn client(&self, name: &str, groups: &[&str]) -> Credentials {
        self.issue(&Leaf::of(name, groups))
    }

    pub fn issue(&self, leaf: &Leaf) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let algorithm = tlv(0x30, &tlv(6, ECDSA_SHA256));
        let serial = [&[1], &key.subject_public_key_info()[40..48]].concat();
        let mut parts = vec![
            tlv(0xa0, &tlv(2, &[2])),
            tlv(2, &serial),
            algorithm.clone(),
            name_of(&[(CN, self.name.clone().into_bytes())]),
            tlv(0x30, &[time(leaf.begins), time(leaf.ends)].concat()),
            name_of(&leaf.subject),
            key.subject_public_key_info(),
        ];
        if let Some(purposes) = &leaf.purposes {
            let ids = purposes
                .iter()
                .map(|last| tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, *last]));
            let value = tlv(0x30, &ids.collect::<Vec<_>>().concat());
            let extension = [tlv(6, PURPOSES), tlv(4, &value)].concat();
            parts.push(tlv(0xa3, &tlv(0x30, &tlv(0x30, &extension))));
        }
        let signed = tlv(0x30, &parts.concat());
        let signature = self.issuer.key().sign(&signed).unwrap();
        let bits = tlv(3, &[&[0], &signature[..]].concat());
        let certificate = tlv(0x30, &[signed, algorithm, bits].concat());
        Credentials {
            chain: vec![certificate.into()],
            key: key.serialize_der(),
        }
    }
}

impl Leaf {
    pub fn of(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (O, group.as_bytes().to_vec()));
        Self {
            subject: groups.chain([(CN, name.as_bytes().to_vec())]).collect(),
            begins: -60,
            ends: 3600,
            purposes: Some(vec![2]),
        }
    }

    pub fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }
}

impl Credentials {
    /// With these beside the certificate.
    pub fn and(mut self, others: &[&Ca]) -> Self {
        self.chain.extend(others.iter().map(|other| other.der()));
        self
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    pub fn certificate_pem(&self) -> String {
        let blocks = self.chain.iter().map(|one| pem("CERTIFICATE", one));
        blocks.collect()
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        BASE64_STANDARD.encode(der)
    )
}

/// A name with one attribute in each set.
fn name_of(attributes: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let set = |(kind, value): &(&[u8], Vec<u8>)| {
        tlv(0x31, &tlv(0x30, &[tlv(6, kind), tlv(UTF8, value)].concat()))
    };
    let sets: Vec<_> = attributes.iter().map(set).collect();
    tlv(0x30, &sets.concat())
}

/// A GeneralizedTime.
fn time(from_now: i64) -> Vec<u8> {
    let distance = Duration::from_secs(from_now.unsigned_abs());
    let now = SystemTime::now();
    let at = OffsetDateTime::from(if from_now < 0 {
        now - distance
    } else {
        now + distance
    });
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    tlv(0x18, text.as_bytes())
}

/// A value in DER: its tag, its length and its content.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..0x80 => vec![tag, length[3]],
        0x80..0x100 => vec![tag, 0x81, length[3]],
        0x100..0x1_0000 => vec![tag, 0x82, length[2], length[3]],
        _ => vec![tag, 0x83, length[1], length[2], length[3]],
    };
    [&head, content].concat()
}
