#!/usr/bin/env bash
# Checks deploy/ and docs/ with the real tools. See `tests/deploy.sh help`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

chart=deploy/helm/kube-retry-proxy
kustomize=deploy/kustomize
values=tests/deploy/values
out=target/deploy
controlplane=tests/controlplane/controlplane.sh

help() {
  cat <<'TXT'
  tests/deploy.sh          checks the chart, the kustomizations, the rules, the dashboard and the guides' links
  tests/deploy.sh cluster  applies all of it to a real control plane (tests/controlplane) whose namespaces enforce Pod Security "restricted"
  tests/deploy.sh update   writes again what deploy/kustomize has from the chart

Uses helm (built from tests/deploy/go.mod), kubectl, promtool and the kube-retry-proxy of this checkout. What misses its tool is skipped, and
fails with CI=true. KUBE_RETRY_PROXY names an executable to use instead of building one.
TXT
}

main() {
  mkdir -p "$out"
  case "${1:-check}" in
    check) check_chart; check_kustomize; check_monitoring; check_guides ;;
    cluster) check_cluster ;;
    update) helm_tool; generate $kustomize; exit ;;
    *) help; exit ;;
  esac
  printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ]
}

# --- Counting ----------------------------------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0

# check WHAT COMMAND…: says what the command prints only if it fails.
check() {
  local what=$1 said
  shift
  # Not within `if`, where a function goes on after a command that failed.
  set +e
  said=$(set -e && "$@" 2>&1)
  local code=$?
  set -e
  if [ $code = 0 ]; then
    passed=$((passed + 1)) && printf 'ok    %s\n' "$what"
  else
    failed=$((failed + 1)) && printf 'FAIL  %s\n      %s\n' "$what" "${said//$'\n'/$'\n'      }"
  fi
}

# has TOOL WHAT: whether the tool is there; without it WHAT is skipped, or fails in CI.
has() {
  command -v "$1" >/dev/null && return
  if [ "${CI:-}" = true ]; then
    failed=$((failed + 1)) && printf 'FAIL  %s: %s is missing\n' "$2" "$1"
  else
    skipped=$((skipped + 1)) && printf 'skip  %s: %s is missing\n' "$2" "$1"
  fi
  return 1
}

refute() { ! "$@"; }

# --- Tools -------------------------------------------------------------------------------------------------------------------------------

# Built once for each go.mod.
helm_tool() {
  helm=$PWD/$out/helm-$(cksum <tests/deploy/go.mod | cut -d' ' -f1)
  [ -x "$helm" ] || (cd tests/deploy && go build -o "$helm" helm.sh/helm/v4/cmd/helm)
}

proxy_tool() {
  proxy=${KUBE_RETRY_PROXY:-target/debug/kube-retry-proxy}
  [ -n "${KUBE_RETRY_PROXY:-}" ] || cargo build --locked --quiet --bin kube-retry-proxy
}

template() { "$helm" template kube-retry-proxy $chart --namespace kube-retry-proxy --values "$@"; }

# The text under the key of a ConfigMap, as it is in the file that holds it.
under() { awk -v key="  $1: |" '$0 == key { on = 1; next } on && /^    |^$/ { print substr($0, 5); next } { on = 0 }'; }

# --- Chart -------------------------------------------------------------------------------------------------------------------------------

check_chart() {
  check "the chart has Cargo.toml's version" same_version
  if ! has go "everything about the chart"; then return; fi
  helm_tool
  proxy_tool
  local file name
  for file in "$values"/*.yaml; do
    name=$(basename "$file" .yaml)
    check "helm lint, $name" "$helm" lint --strict --quiet $chart --values "$file"
    check "helm template, $name" render "$file" "$name"
    check "check-config, $name" "$proxy" check-config "$out/$name.config.yaml"
  done
  for file in tests/deploy/bad/*.yaml; do
    check "helm refuses $(basename "$file" .yaml)" refuses "$file"
  done
  check "no RBAC unless an option needs it" refute grep -l '^kind: .*Role' "$out"/{minimal,base,full,sidecar,sidecar-full}.yaml
  check "no token for the proxy unless an option needs it" no_token
  check "discover is added to upstream's other settings" grep -qx '      discover: Kubernetes' "$out/discover.yaml"
  check "events are added to the configuration" grep -qx '    events:' "$out/events.yaml"
  check "memory limit: the bounds together" grep -q 'memory: 1777Mi' "$out/full.yaml"
  check "grace period: preStop, drain.timeout and 10 s" grep -q 'terminationGracePeriodSeconds: 105' "$out/full.yaml"
  check "a new mode does not roll the pods" same_checksum --set config.mode=Off
  check "a new buffer does" refute same_checksum --set config.creates.maxBuffered=1Gi
  check "the notes name the next two commands" notes
  check "deploy/kustomize has what the chart renders" generated
}

same_version() {
  local version
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
  grep -qx "version: $version" $chart/Chart.yaml && grep -qx "appVersion: $version" $chart/Chart.yaml
}

render() {
  template "$1" >"$out/$2.yaml"
  under config.yaml <"$out/$2.yaml" >"$out/$2.config.yaml"
  [ -s "$out/$2.config.yaml" ]
}

# A file of bad values begins with a comment that says what helm must complain of.
refuses() {
  local said
  if said=$(template "$1" 2>&1); then echo "accepted" && return 1; fi
  grep -qF -- "$(sed -n '1s/^# //p' "$1")" <<<"$said" || { echo "$said" && return 1; }
}

no_token() {
  template $values/full.yaml --show-only templates/deployment.yaml >"$out/pod.yaml"
  refute grep serviceAccountToken "$out/pod.yaml" "$out/sidecar.yaml"
}

same_checksum() {
  local before after
  before=$(template $values/minimal.yaml | grep checksum/config)
  after=$(template $values/minimal.yaml "$@" | grep checksum/config)
  [ -n "$before" ] && [ "$before" = "$after" ]
}

notes() {
  "$helm" install kube-retry-proxy $chart --dry-run=client --namespace argo --values $values/minimal.yaml | grep -q 'helm test kube-retry-proxy -n argo'
  "$helm" install kube-retry-proxy $chart --dry-run=client --namespace argo --values $values/sidecar.yaml |
    grep -q 'kubectl -n argo patch deployment workflow-controller --patch-file /dev/stdin'
}

# Writes everything that deploy/kustomize takes from the chart below the folder $1. Helm does not manage it there.
generate() {
  local to=$1 kind
  mkdir -p "$to/base" "$to"/components/{sidecar,sidecar-in-cluster,monitoring,cert-manager}
  rendered base --skip-tests >"$to/base/deployment.yaml"
  for kind in sidecar sidecar-in-cluster; do
    rendered $kind | sed '/^  # For `kubectl patch/,$d' >"$to/components/$kind/config.yaml"
    rendered $kind | under patch.yaml >"$to/components/$kind/patch.yaml"
  done
  rendered production --show-only templates/monitoring.yaml >"$to/components/monitoring/monitoring.yaml"
  rendered production --show-only templates/certificate.yaml >"$to/components/cert-manager/certificate.yaml"
}

rendered() { template "$values/$1.yaml" "${@:2}" | grep -vE '^# Source:|helm.sh/chart:|app.kubernetes.io/managed-by:'; }

generated() {
  rm -rf "$out/generated" && generate "$out/generated"
  local file
  (cd "$out/generated" && find . -type f) | while read -r file; do
    diff -u "$kustomize/$file" "$out/generated/$file" || { echo "run tests/deploy.sh update" && return 1; }
  done
}

# --- Kustomize ---------------------------------------------------------------------------------------------------------------------------

check_kustomize() {
  if ! has kubectl "everything about kustomize"; then return; fi
  local overlay version install component
  for overlay in base overlays/observe overlays/production; do
    check "kustomize build, $overlay" build "$kustomize/$overlay" "$(basename $overlay)"
  done
  check "three replicas in production" grep -q 'replicas: 3' "$out/production.built.yaml"
  if ! has go "the sidecar in Argo's manifests"; then return; fi
  for version in 3.4 4.0; do
    for install in cluster-install namespace-install; do
      check "overlays/argo on Argo $version, $install" build_argo $version $install sidecar
    done
    check "--namespaced survives the patch, Argo $version" grep -q -- '- --namespaced' "$out/argo-$version-namespace-install-sidecar.built.yaml"
    for component in sidecar-in-cluster client client-in-cluster; do
      check "components/$component on Argo $version" build_argo $version cluster-install $component
    done
  done
}

build() { kubectl kustomize "$1" >"$out/$2.built.yaml"; }

# overlays/argo with another component, and with Argo's manifests from its Go module instead of the network.
build_argo() {
  local version=$1 install=$2 component=$3
  local name=argo-$version-$install-$component
  local work=$out/$name
  rm -rf "$work" && mkdir -p "$work/overlays/argo"
  cp -r $kustomize/components "$work/components"
  cp -r "$(argo_manifests "$version")" "$work/argo" && chmod -R u+w "$work/argo"
  sed -e "s|https://github.com/argoproj.*|../../argo/$install|" -e "s|components/sidecar\$|components/$component|" \
    $kustomize/overlays/argo/kustomization.yaml >"$work/overlays/argo/kustomization.yaml"
  build "$work/overlays/argo" "$name"
}

argo_manifests() {
  local module
  module=$(sed -n 's|^tool \(.*\)/cmd/workflow-controller$|\1|p' "tests/controlplane/argo-$1/go.mod")
  (cd "tests/controlplane/argo-$1" && go mod download "$module" && printf '%s/manifests' "$(go list -m -f '{{.Dir}}' "$module")")
}

# --- Monitoring --------------------------------------------------------------------------------------------------------------------------

check_monitoring() {
  local rules=$chart/files/rules.yaml alert
  for alert in $(alerts); do
    check "$alert is tested and has a runbook" documented "$alert"
  done
  if has promtool "the alerts"; then
    check "promtool check rules" promtool check rules $rules
    check "promtool test rules" promtool test rules tests/deploy/rules_test.yaml
  fi
  if has go "the dashboard's schema"; then check "the dashboard fits Grafana's schema" go test -C tests/deploy -count=1 ./...; fi
}

alerts() { sed -n 's/^ *- alert: //p' $chart/files/rules.yaml; }

# An alert has a test in which it fires, a runbook, and a link to it.
documented() {
  grep -q "alertname: $1\$" tests/deploy/rules_test.yaml
  grep -qx "## $1" docs/runbooks.md
  grep -q "runbook_url: docs/runbooks.md#$(tr '[:upper:]' '[:lower:]' <<<"$1")\$" $chart/files/rules.yaml
}

# --- Guides ------------------------------------------------------------------------------------------------------------------------------

check_guides() {
  local file
  for file in README.md CONTRIBUTING.md ARCHITECTURE.md deploy/README.md docs/*.md; do
    check "links of $file" links "$file"
  done
}

# Every relative link leads to a file, and its fragment to a heading.
links() {
  local link target fragment
  { grep -oE '\]\([^)#:]*(#[^)]*)?\)' "$1" || true; } | sed -E 's/^\]\(//; s/\)$//' | while read -r link; do
    target=${link%%#*} fragment=${link#"${link%%#*}"}
    target=$(dirname "$1")/${target:-$(basename "$1")}
    [ -e "$target" ] || { echo "$link: no such file" && exit 1; }
    [ -z "$fragment" ] || anchors "$target" | grep -qx -- "${fragment#\#}" || { echo "$link: no such heading" && exit 1; }
  done
}

# The fragments of a file's headings, as GitHub makes them.
anchors() { sed -n 's/^##* //p' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'; }

# --- Cluster -----------------------------------------------------------------------------------------------------------------------------

# The API objects of others that deploy/ makes, from the Go modules of those who define them.
crds() {
  local module dir
  for module in github.com/prometheus-operator/prometheus-operator@v0.85.0 github.com/cert-manager/cert-manager@v1.19.1; do
    dir=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    ls "$dir"/example/prometheus-operator-crd/*{podmonitors,servicemonitors,prometheusrules}.yaml "$dir"/deploy/crds/cert-manager.io_certificates.yaml 2>/dev/null || true
  done
}

check_cluster() {
  if ! has go "the control plane" || ! has openssl "the control plane"; then return; fi
  helm_tool
  check_chart >/dev/null
  check_kustomize >/dev/null
  passed=0 failed=0 skipped=0
  export CONTROLPLANE_DIR=$PWD/$out/controlplane
  trap '$controlplane down' EXIT
  $controlplane up 1
  export KUBECONFIG=$CONTROLPLANE_DIR/admin.kubeconfig
  kubectl=$($controlplane path kubectl)
  local crd namespace file
  for crd in $(crds); do "$kubectl" create -f "$crd" >/dev/null; done
  "$kubectl" wait --for=condition=Established --timeout=60s crd --all >/dev/null
  for namespace in kube-retry-proxy argo airflow; do
    "$kubectl" create namespace $namespace >/dev/null
    "$kubectl" label namespace $namespace pod-security.kubernetes.io/{enforce,warn}=restricted >/dev/null
  done

  check "helm install" "$helm" install kube-retry-proxy $chart --namespace kube-retry-proxy --values $values/minimal.yaml
  check "its pods are admitted as restricted" admitted kube-retry-proxy app.kubernetes.io/name=kube-retry-proxy
  check "helm test" helm_test
  check "an upgrade keeps the CA, and a new mode the pods" upgrade_keeps
  check "upstream.discover may list the EndpointSlice kubernetes, and no other" discover_may

  check "events.enabled may create Events everywhere, and nothing else" events_may

  for file in "$out"/{minimal,base,full,discover,events,production,observe.built,production.built}.yaml; do
    check "the apiserver takes ${file##*/}" takes kube-retry-proxy "$file"
  done
  for file in "$out"/sidecar{,-full,-in-cluster}.yaml; do
    check "the apiserver takes ${file##*/}" takes argo "$file"
  done
  local version
  for version in 3.4 4.0; do
    check "Argo $version with the sidecar is admitted as restricted" sidecar_admitted $version sidecar
    check "Argo $version with the in-cluster sidecar is admitted as restricted" sidecar_admitted $version sidecar-in-cluster
  done
}

# Accepted whole, and without a warning of Pod Security.
takes() {
  local said
  "$kubectl" config set-context --current --namespace "$1" >/dev/null
  said=$("$kubectl" apply --dry-run=server -f "$2" 2>&1) || { echo "$said" && return 1; }
  refute grep 'would violate PodSecurity' <<<"$said"
}

# A pod gets into the namespace $1 for the labels $2, or the reasons why not.
admitted() {
  "$kubectl" --namespace "$1" wait --for=create --timeout=60s pod --selector "$2" ||
    { "$kubectl" --namespace "$1" get events --field-selector reason=FailedCreate -o custom-columns=:message && return 1; }
}

# `helm test` with this script for a kubelet: the proxy's container and the test's run as processes, with the files that their volumes hold.
helm_test() (
  release=(--namespace kube-retry-proxy)
  files=$PWD/$out/kubelet
  rm -rf "$files" && mkdir -p "$files"/{kube-retry-proxy,kube-retry-proxy-tls,client}
  of() { "$kubectl" "${release[@]}" get "$1" -o "jsonpath=$2"; }
  of configmap/kube-retry-proxy '{.data.config\.yaml}' >"$files/kube-retry-proxy/config.yaml"
  for name in tls.crt tls.key ca.crt; do
    of secret/kube-retry-proxy-tls "{.data.${name/./\\.}}" | base64 -d >"$files/kube-retry-proxy-tls/$name"
  done
  of configmap/kube-retry-proxy-client '{.data.kubeconfig}' | sed "s|/var/run/secrets/[^ ]*|$files/client/token|" >"$files/client/kubeconfig"
  cp "$files/kube-retry-proxy-tls/ca.crt" "$files/client"
  "$kubectl" "${release[@]}" create token kube-retry-proxy >"$files/client/token"

  mapfile -t arguments < <(of deployment/kube-retry-proxy '{range .spec.template.spec.containers[0].args[*]}{@}{"\n"}{end}' | sed "s|/etc/|$files/|")
  "$proxy" "${arguments[@]}" --upstream "$(head -1 "$CONTROLPLANE_DIR/servers")" --upstream-ca-file "$CONTROLPLANE_DIR/pki/ca.crt" \
    --bind-address 127.0.0.1 --secure-port 0 --admin-bind-address 127.0.0.1:0 --log-format json >"$files/log" 2>&1 &
  trap "kill $!" EXIT
  for _ in {1..100}; do grep -qs '"address"' "$files/log" && break; sleep 0.1; done
  address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$files/log")
  host=$(sed -n 's|.*server: "\{0,1\}https://\([^"/:,]*\).*|\1|p' "$files/client/kubeconfig")

  "$helm" test kube-retry-proxy "${release[@]}" --timeout 60s &
  testing=$!
  "$kubectl" "${release[@]}" wait --for=create --timeout=30s pod/kube-retry-proxy-test
  mapfile -t arguments < <(of pod/kube-retry-proxy-test '{range .spec.containers[0].args[*]}{@}{"\n"}{end}')
  phase=Failed
  "$kubectl" --kubeconfig "$files/client/kubeconfig" --server "https://$address" --tls-server-name "$host" "${arguments[@]}" && phase=Succeeded
  "$kubectl" "${release[@]}" patch pod kube-retry-proxy-test --subresource status --patch '{"status": {"phase": "'$phase'"}}'
  wait $testing
)

upgrade_keeps() {
  local before after
  before=$(kept)
  "$helm" upgrade kube-retry-proxy $chart --namespace kube-retry-proxy --values $values/minimal.yaml --set config.mode=Observe
  after=$(kept)
  [ -n "$before" ] && [ "$before" = "$after" ]
  "$kubectl" --namespace kube-retry-proxy get configmap kube-retry-proxy -o yaml | grep -q 'mode: Observe'
}

kept() {
  "$kubectl" --namespace kube-retry-proxy get secret kube-retry-proxy-tls -o 'jsonpath={.data.tls\.crt}'
  "$kubectl" --namespace kube-retry-proxy get deployment kube-retry-proxy -o 'jsonpath={.metadata.generation}'
}

discover_may() {
  may list endpointslices.discovery.k8s.io/kubernetes no
  "$helm" upgrade kube-retry-proxy $chart --namespace kube-retry-proxy --values $values/discover.yaml
  may list endpointslices.discovery.k8s.io/kubernetes yes
  may list endpointslices.discovery.k8s.io no
  may list pods no
}

events_may() {
  may create events.events.k8s.io no
  "$helm" upgrade kube-retry-proxy $chart --namespace kube-retry-proxy --values $values/events.yaml
  may create events.events.k8s.io yes
  may list events.events.k8s.io no
  may create pods no
}

# may VERB WHAT yes|no, in the namespace default, as the proxy.
may() {
  local answer
  answer=$("$kubectl" auth can-i "$1" "$2" --namespace default --as system:serviceaccount:kube-retry-proxy:kube-retry-proxy) || true
  [ "$answer" = "$3" ] || { echo "$1 $2: $answer" && return 1; }
}

# Argo's own pod lacks a seccomp profile; with one, nothing but the sidecar could be refused.
sidecar_admitted() {
  "$kubectl" apply --server-side --force-conflicts -f "$out/argo-$1-cluster-install-$2.built.yaml"
  "$kubectl" --namespace argo patch deployment workflow-controller \
    --patch '{"spec": {"template": {"metadata": {"labels": {"test": "'"$1-$2"'"}}, "spec": {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}}}}'
  admitted argo "test=$1-$2"
  "$kubectl" --namespace argo get pod --selector "test=$1-$2" -o 'jsonpath={.items[*].spec.initContainers[*].restartPolicy}' | grep -q Always
}

main "$@"
