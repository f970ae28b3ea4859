//! An OCI image layout with the static executable, `FROM scratch`, built without a container
//! engine.
//!
//! <https://github.com/opencontainers/image-spec> defines the format: `oci-layout`, `index.json`,
//! and a blob for each layer, configuration and manifest, named by its digest.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::archive::{Entry, gzip, tar};
use crate::hash::sha256;
use crate::workspace::PROXY;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A numeric user, as runAsNonRoot requires. deploy/Dockerfile and the chart use the same one.
const USER: &str = "65532:65532";

pub(super) struct Image {
    pub(super) version: String,
    /// The time of the image, in seconds since 1970.
    pub(super) epoch: u64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) platforms: Vec<Platform>,
}

/// The parts of an image that differ between architectures.
pub(super) struct Platform {
    /// The architecture in Go's naming.
    pub(super) architecture: &'static str,
    pub(super) executable: Vec<u8>,
    pub(super) sbom: Vec<u8>,
}

impl Image {
    /// The files of the layout. Several platforms share one index, as in registries.
    pub(super) fn layout(&self) -> Result<Vec<Entry>> {
        let mut blobs = Blobs::default();
        let mut manifests = Vec::new();
        for platform in &self.platforms {
            manifests.push(self.manifest(platform, &mut blobs)?);
        }
        let mut top = match manifests.len() {
            1 => manifests.remove(0),
            _ => blobs.put_json(
                INDEX,
                &json!({
                    "schemaVersion": 2,
                    "mediaType": INDEX,
                    "manifests": manifests,
                    "annotations": self.labels,
                }),
            )?,
        };
        // skopeo, buildah and podman read the first annotation, containerd the second.
        top["annotations"] = json!({
            "org.opencontainers.image.ref.name": self.version,
            "io.containerd.image.name": format!("localhost/{PROXY}:{}", self.version),
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]});
        let mut files = blobs.files;
        files.insert("index.json".into(), serde_json::to_vec(&index)?);
        files.insert(
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        );
        Ok(files
            .into_iter()
            .map(|(path, data)| Entry::file(path, data))
            .collect())
    }

    fn manifest(&self, platform: &Platform, blobs: &mut Blobs) -> Result<Value> {
        let sbom = format!("{PROXY}.cdx.json");
        let files = vec![
            Entry::executable(PROXY, platform.executable.clone()),
            Entry::file(sbom, platform.sbom.clone()),
        ];
        let layer = tar(files, self.epoch)?;
        let created = OffsetDateTime::from_unix_timestamp(self.epoch.try_into()?)?;
        let created = created.format(&Rfc3339)?;
        let config = json!({
            "created": created,
            "architecture": platform.architecture,
            "os": "linux",
            "config": {
                "User": USER,
                "Entrypoint": [format!("/{PROXY}")],
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            "history": [{"created": created, "created_by": "cargo xtask release"}],
        });
        let config = blobs.put_json(CONFIG, &config)?;
        let layer = blobs.put(LAYER, gzip(&layer)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": self.labels,
        });
        let mut descriptor = blobs.put_json(MANIFEST, &manifest)?;
        descriptor["platform"] = json!({"architecture": platform.architecture, "os": "linux"});
        Ok(descriptor)
    }
}

#[derive(Default)]
struct Blobs {
    files: BTreeMap<String, Vec<u8>>,
}

impl Blobs {
    /// Adds a blob and returns its descriptor.
    fn put(&mut self, media_type: &str, data: Vec<u8>) -> Value {
        let (digest, size) = (digest(&data), data.len());
        self.files
            .insert(format!("blobs/{}", digest.replace(':', "/")), data);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    fn put_json(&mut self, media_type: &str, value: &Value) -> Result<Value> {
        Ok(self.put(media_type, serde_json::to_vec(value)?))
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::archive::tests::gunzip;
    use super::*;

    fn image(architectures: &[&'static str]) -> Image {
        let platform = |architecture: &&'static str| Platform {
            architecture,
            executable: format!("\x7fELF for {architecture}").into_bytes(),
            sbom: b"{}".to_vec(),
        };
        Image {
            version: "1.2.3".into(),
            epoch: 1_700_000_000,
            labels: BTreeMap::from([("org.opencontainers.image.title".into(), PROXY.into())]),
            platforms: architectures.iter().map(platform).collect(),
        }
    }

    fn files(image: &Image) -> BTreeMap<String, Vec<u8>> {
        let entries = image.layout().unwrap();
        entries
            .into_iter()
            .map(|entry| (entry.path, entry.data))
            .collect()
    }

    /// Returns the blob of a descriptor, after checking its digest and size.
    fn follow<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let data = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(digest, super::digest(data));
        assert_eq!(descriptor["size"], data.len());
        data
    }

    fn json_of(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value, media_type: &str) -> Value {
        assert_eq!(descriptor["mediaType"], media_type);
        serde_json::from_slice(follow(files, descriptor)).unwrap()
    }

    fn top(files: &BTreeMap<String, Vec<u8>>) -> Value {
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        let top = index["manifests"][0].clone();
        assert_eq!(
            top["annotations"]["org.opencontainers.image.ref.name"],
            "1.2.3"
        );
        top
    }

    /// Checks every digest and size from a manifest down to the executable.
    fn check_manifest(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value, architecture: &str) {
        assert_eq!(descriptor["platform"]["architecture"], architecture);
        let manifest = json_of(files, descriptor, MANIFEST);
        let config = json_of(files, &manifest["config"], CONFIG);
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/kube-retry-proxy"]));
        assert_eq!(
            config["config"]["Labels"]["org.opencontainers.image.title"],
            PROXY
        );
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER);
        let layer = gunzip(follow(files, &manifest["layers"][0]));
        assert_eq!(config["rootfs"]["diff_ids"], json!([super::digest(&layer)]));
        let mut archive = tar::Archive::new(layer.as_slice());
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().mode().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (PROXY.to_owned(), 0o755),
                (format!("{PROXY}.cdx.json"), 0o644)
            ]
        );
        let executable = format!("\x7fELF for {architecture}");
        assert!(String::from_utf8_lossy(&layer).contains(&executable));
    }

    #[test]
    fn one_platform_has_a_manifest() {
        let files = files(&image(&["amd64"]));
        check_manifest(&files, &top(&files), "amd64");
        // Layer, configuration, manifest; index.json, oci-layout.
        assert_eq!(files.len(), 5);
    }

    #[test]
    fn two_platforms_share_an_index() {
        let files = files(&image(&["amd64", "arm64"]));
        let index = json_of(&files, &top(&files), INDEX);
        check_manifest(&files, &index["manifests"][0], "amd64");
        check_manifest(&files, &index["manifests"][1], "arm64");
        assert_eq!(files.len(), 9);
    }

    #[test]
    fn the_same_executables_give_the_same_layout() {
        assert_eq!(
            files(&image(&["amd64", "arm64"])),
            files(&image(&["amd64", "arm64"]))
        );
    }
}
