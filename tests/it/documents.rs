//! What the documents print to be copied: configurations, and the lines of a CI job.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kube_retry_proxy::config;

use crate::cases::every;
use crate::support::executable::{Place, command, run};

const HEAD: &str = "apiVersion: kube-retry-proxy/v1alpha1\nkind: ProxyConfiguration\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let all = [root().to_owned(), root().join("docs")].map(|folder| fs::read_dir(folder).unwrap());
    all.into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// The fenced blocks of a page in this language, each with its line and without its indentation.
fn blocks(page: &Path, language: &str) -> Vec<(usize, String)> {
    let text = fs::read_to_string(page).unwrap();
    let fence = format!("```{language}");
    let mut lines = text.lines().enumerate();
    let mut blocks = Vec::new();
    while let Some((at, line)) = lines.next() {
        if line.trim() != fence {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let block = lines
            .by_ref()
            .map(|(_, line)| line.get(indent..).unwrap_or_default())
            .take_while(|line| !line.starts_with("```"));
        blocks.push((at + 1, block.map(|line| format!("{line}\n")).collect()));
    }
    blocks
}

/// The keys of the mapping that a block is.
fn keys(block: &str) -> Vec<&str> {
    block
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '-']))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect()
}

/// The file that a reader makes of a block: the block itself, or what the chart makes of the value
/// `config`. None: the block is something else.
fn configuration(block: &str) -> Option<String> {
    if let Some(value) = block.strip_prefix("config:\n") {
        let lines = value.lines();
        let fields = lines.map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)));
        return Some(HEAD.to_owned() + &fields.collect::<String>());
    }
    let settings: Vec<_> = config::declared()
        .into_iter()
        .map(|each| each.name)
        .collect();
    let ours = block.contains("kube-retry-proxy/v1alpha1")
        || keys(block)
            .iter()
            .any(|key| settings.iter().any(|name| name == key));
    ours.then(|| block.to_owned())
}

#[tokio::test]
async fn every_configuration_of_the_documents_passes_check_config() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for page in pages() {
        for (line, block) in blocks(&page, "yaml") {
            if let Some(text) = configuration(&block) {
                let name = page.file_stem().unwrap().to_str().unwrap();
                let file = directory.path().join(format!("{name}-{line}.yaml"));
                fs::write(&file, text).unwrap();
                files.push(file.display().to_string());
            }
        }
    }
    let names = files.join(" ");
    for known in ["/ci-jobs-", "/spark-", "/tracing-", "/configuration-"] {
        assert!(names.contains(known), "no block of {known} in {names}");
    }
    every(files, async |file| {
        let ended = run(command(&["check-config", &file])).await;
        assert_eq!(
            (ended.code, ended.stdout, ended.stderr.as_str()),
            (Some(0), format!("{file}: ok\n"), "")
        );
    })
    .await;
}

/// Runs the lines of docs/ci-jobs.md with `sh`. Only the ports are free ones, and in place of Helm
/// the job prints the kubeconfig that Helm would read.
#[tokio::test]
async fn the_lines_of_the_ci_job_end_with_the_job_whether_the_proxy_starts_or_not() {
    let page = root().join("docs/ci-jobs.md");
    let only = |language| {
        let mut blocks = blocks(&page, language);
        assert_eq!(blocks.len(), 1, "{language}");
        blocks.remove(0).1
    };
    let helm = "helm upgrade --install …\n";
    let lines = only("sh");
    assert!(lines.contains(helm), "{lines}");
    let place = Place::new().await;
    let url = &place.plane.urls()[0];
    let kubeconfig = place.write(
        "job",
        &format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: '{url}', certificate-authority: upstream-ca.crt}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n"
        ),
    );
    let program = command(&[]).get_program().to_owned();
    let folder = Path::new(&program).parent().unwrap().display().to_string();
    let job = |name: &str, config: &str| {
        let directory = place.path(name);
        fs::create_dir(&directory).unwrap();
        fs::write(Path::new(&directory).join("config.yaml"), config).unwrap();
        let mut job = Command::new("sh");
        job.arg("-c")
            .arg(lines.replace(helm, "cat \"$KUBECONFIG\"\n"))
            .current_dir(directory)
            .env_clear()
            .env("PATH", format!("{folder}:/usr/bin:/bin"))
            .env("KUBECONFIG", &kubeconfig)
            .env("KUBE_RETRY_PROXY_SECURE_PORT", "0")
            .env("KUBE_RETRY_PROXY_ADMIN_BIND_ADDRESS", "127.0.0.1:0");
        job
    };
    // The proxy writes to the pipes of the job. They close only when it has ended too.
    let done = run(job("right", &only("yaml"))).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stdout.contains("server: https://127.0.0.1:8443") && done.stdout.contains("token: t"),
        "{done:?}"
    );
    let failed = run(job("wrong", "replay: {}\n")).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    assert!(failed.stderr.contains("apiVersion"), "{failed:?}");
}
