#!/usr/bin/env bash
# A real Kubernetes control plane on loopback, without containers: etcd, kube-apiservers and kube-controller-manager as plain processes.
# See `controlplane.sh help`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${CONTROLPLANE_DIR:-$here/../../target/controlplane}
cache=${CONTROLPLANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kube-retry-proxy/controlplane}

# How long a component may take to become ready. A first start on a busy machine takes about 20 s.
ready_seconds=120

help() {
  cat <<'TXT'
A real Kubernetes control plane on loopback, of plain processes.

  controlplane.sh build            builds whatever is missing: the programs below and Argo's workflow-controllers
  controlplane.sh up N             starts etcd, N kube-apiservers and kube-controller-manager, and waits until they are ready
  controlplane.sh add NAME FLAG…   starts one more kube-apiserver with these flags
  controlplane.sh stop NAME [SIG]  ends a component (default TERM) and waits for its end; `kill` is `stop NAME KILL`
  controlplane.sh start NAME       starts it again, as it was, and waits until it is ready
  controlplane.sh signal NAME SIG  sends a signal, such as STOP and CONT
  controlplane.sh argo VERSION     installs Argo's own manifests, 3.4 or 4.0, and makes its service account's token (argo.kubeconfig)
  controlplane.sh status           what runs, where, and where its log is
  controlplane.sh path PROGRAM     where an executable is: etcd, kube-apiserver, kube-controller-manager, kubectl, driver, argo-3.4, argo-4.0
  controlplane.sh down             ends everything; logs stay

Components are named etcd, apiserver-0 …, controller-manager.

CONTROLPLANE_DIR    scratch folder (default target/controlplane): PKI, tokens, kubeconfigs, logs, etcd's data
CONTROLPLANE_CACHE  where built programs are kept (default ~/.cache/kube-retry-proxy/controlplane), by version and Go release
KUBEBUILDER_ASSETS  a folder whose etcd, kube-apiserver and kubectl are used instead of built ones, as setup-envtest makes it
APISERVER_FLAGS     further flags of every kube-apiserver of `up`
APISERVER_ADDRESSES addresses of this machine, one for each kube-apiserver of `up`, instead of 127.0.0.1. They then share a port and enter
                    themselves into the Service kubernetes, as in a cluster; Kubernetes takes no loopback address there.

Needs bash, openssl, and Go unless KUBEBUILDER_ASSETS has every program.
TXT
}

main() {
  local verb=${1:-help}
  shift || true
  case "$verb" in
    build) for program in etcd kube-apiserver kube-controller-manager kubectl driver argo-3.4 argo-4.0; do program "$program" >/dev/null; done ;;
    up) up "${1:?up N: how many kube-apiservers?}" ;;
    add) add "${1:?add NAME FLAG…}" "${@:2}" ;;
    stop) stop "${1:?stop NAME}" "${2:-TERM}" ;;
    kill) stop "${1:?kill NAME}" KILL ;;
    start) start "${1:?start NAME}" && wait_ready "$1" ;;
    argo) argo "${1:?argo VERSION}" ;;
    signal) kill -s "${2:?signal NAME SIG}" "$(pid_of "${1:?signal NAME SIG}")" ;;
    status) status ;;
    path) program "${1:?path PROGRAM}" ;;
    down) down ;;
    help | -h | --help) help ;;
    *) fail "no such verb: $verb (see: controlplane.sh help)" ;;
  esac
}

say() { printf 'controlplane: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# --- Programs ---------------------------------------------------------------------------------------------------------------------------

# program NAME: prints the path of an executable, building it first if need be.
program() {
  local name=$1
  case "$name" in
    etcd | kube-apiserver | kube-controller-manager | kubectl)
      if [ -x "${KUBEBUILDER_ASSETS:-/nonexistent}/$name" ]; then
        echo "$KUBEBUILDER_ASSETS/$name"
      else
        built kubernetes "$name"
      fi
      ;;
    driver) driver ;;
    argo-3.4 | argo-4.0) built "$name" workflow-controller ;;
    *) fail "no such program: $name" ;;
  esac
}

package_of() {
  case "$1" in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    workflow-controller) (cd "$here/$2" && go list tool) ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

# built MODULE PROGRAM: builds it from the Go module in that folder, once for each content of go.mod and go.sum and each Go release.
built() {
  local module=$1 name=$2 key target
  command -v go >/dev/null || fail "Go is needed to build $name (or set KUBEBUILDER_ASSETS to a folder that has it)"
  key=$(cd "$here/$module" && { cat go.mod go.sum; go version; } | sha256sum | cut -c1-16)
  target=$cache/$module-$key/$name
  if [ ! -x "$target" ]; then
    say "building $name of $module, once; this takes minutes"
    mkdir -p "${target%/*}"
    (cd "$here/$module" && go build -ldflags "-s -w $(version_flags "$module")" -o "$target.new" "$(package_of "$name" "$module")") >&2
    mv "$target.new" "$target"
  fi
  echo "$target"
}

# What a release build tells its program about its version: clients, features and emulated versions depend on it.
version_flags() {
  [ "$1" = kubernetes ] || return 0
  local version package
  version=$(cd "$here/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s ' \
      "$package" "$version" "$package" "$package" "$(cut -d. -f2 <<<"$version")"
  done
}

# The client-go program of the tests; Go's own cache makes this quick when nothing has changed.
driver() {
  mkdir -p "$cache"
  (cd "$here/kubernetes" && go build -o "$cache/driver" ./driver) >&2
  echo "$cache/driver"
}

# --- Components -------------------------------------------------------------------------------------------------------------------------

up() {
  local n=$1 index
  [[ $n =~ ^[1-9][0-9]*$ ]] || fail "up N: '$n' is no number of kube-apiservers"
  local -a addresses
  read -ra addresses <<<"${APISERVER_ADDRESSES:-}"
  ((${#addresses[@]} == 0 || ${#addresses[@]} == n)) || fail "APISERVER_ADDRESSES has ${#addresses[@]} addresses, want $n"
  for pid in "$dir"/run/*.pid; do
    [ ! -e "$pid" ] || ! alive "$(cat "$pid")" || fail "$(basename "$pid" .pid) runs already: controlplane.sh down"
  done
  local name
  for name in etcd kube-apiserver kube-controller-manager kubectl; do program "$name" >/dev/null; done
  rm -rf "$dir"
  mkdir -p "$dir"/{run,log,pki,etcd,ports}
  make_pki "${addresses[@]}"
  make_tokens

  echo "http://127.0.0.1:$(port etcd)" >"$dir/run/etcd.url"
  define etcd "$(program etcd)" --data-dir="$dir/etcd" --unsafe-no-fsync \
    --listen-client-urls="http://127.0.0.1:$(port etcd)" --advertise-client-urls="http://127.0.0.1:$(port etcd)" \
    --listen-peer-urls="http://127.0.0.1:$(port etcd-peer)"
  for ((index = 0; index < n; index++)); do
    # Word splitting is wanted: these are several flags.
    # shellcheck disable=SC2086
    define_apiserver "apiserver-$index" "${addresses[index]:-127.0.0.1}" ${APISERVER_FLAGS:-}
  done
  echo "https://127.0.0.1:$(port controller-manager)" >"$dir/run/controller-manager.url"
  define controller-manager "$(program kube-controller-manager)" --kubeconfig="$dir/admin.kubeconfig" --leader-elect=false \
    --use-service-account-credentials --service-account-private-key-file="$dir/pki/service-account.key" --root-ca-file="$dir/pki/ca.crt" \
    --secure-port="$(port controller-manager)" --bind-address=127.0.0.1 --cert-dir="$dir/pki/controller-manager"

  start etcd
  # The first one alone makes what all of them would otherwise make at once.
  start apiserver-0
  wait_ready apiserver-0
  for ((index = 1; index < n; index++)); do start "apiserver-$index"; done
  start controller-manager
  for ((index = 1; index < n; index++)); do wait_ready "apiserver-$index"; done
  wait_ready controller-manager
  # What `user` may do: everything of an ordinary namespace, no quotas, no RBAC.
  kubectl create clusterrolebinding user-edits --clusterrole=edit --user=user >/dev/null
  say "up: $(tr '\n' ' ' <"$dir/servers")"
}

add() {
  local name=$1
  shift
  [ -e "$dir/pki/ca.crt" ] || fail "no control plane in $dir: controlplane.sh up N"
  define_apiserver "$name" 127.0.0.1 "$@"
  start "$name"
  wait_ready "$name"
}

# Argo's manifests for a whole cluster: CRDs, RBAC, configuration. There is no kubelet, so its Deployments stay Pending, and the
# controller is run beside them as a process.
argo() {
  local module=argo-$1 source
  [ -d "$here/$module" ] || fail "no Argo $1 here: 3.4 or 4.0"
  source=$(cd "$here/$module" && go list -m -f '{{.Dir}}' "$(go list -f '{{.Module.Path}}' "$(go list tool)")")
  kubectl create namespace argo --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl apply --server-side --force-conflicts -k "$source/manifests/cluster-install" >/dev/null
  kubectl wait --for=condition=Established --timeout=60s crd/workflows.argoproj.io crd/workflowtasksets.argoproj.io >/dev/null
  # Without metrics: until a controller leads, a dummy server holds their port, and it panics if the real one comes before the dummy is gone.
  # A kubelet would start it again; here nobody does.
  kubectl patch configmap workflow-controller-configmap --namespace argo --type merge \
    --patch '{"data": {"metricsConfig": "{enabled: false}"}}' >/dev/null
  # What 3.4's own roles lack for HTTP templates: it looks for a CA bundle in the workflow's namespace and updates its task sets' status.
  kubectl create clusterrole argo-agents --verb=get,patch,update --resource=secrets,workflowtasksets.argoproj.io/status \
    --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl create clusterrolebinding argo-agents --clusterrole=argo-agents --serviceaccount=argo:argo --dry-run=client -o yaml |
    kubectl apply -f - >/dev/null
  kubectl create token argo --namespace argo --duration 24h >"$dir/argo.token"
}

# define NAME COMMAND…: keeps the command line, so that the component can be started again as it was.
define() {
  local name=$1
  shift
  printf '%q ' "$@" >"$dir/run/$name.cmd"
}

# define_apiserver NAME ADDRESS FLAG…
define_apiserver() {
  local name=$1 address=$2 port reconciler=none url
  shift 2
  if [ "$address" = 127.0.0.1 ]; then
    port=$(port "$name")
  else
    # One port for all: the Service has one.
    port=$(port apiserver) reconciler=lease
  fi
  url=https://$address:$port
  echo "$url" >"$dir/run/$name.url"
  define "$name" "$(program kube-apiserver)" --etcd-servers="http://127.0.0.1:$(port etcd)" \
    --bind-address="$address" --secure-port="$port" --advertise-address="$address" --endpoint-reconciler-type="$reconciler" \
    --tls-cert-file="$dir/pki/apiserver.crt" --tls-private-key-file="$dir/pki/apiserver.key" --client-ca-file="$dir/pki/ca.crt" \
    --token-auth-file="$dir/tokens.csv" --authorization-mode=RBAC --service-cluster-ip-range=10.0.0.0/24 \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$dir/pki/service-account.pub" \
    --service-account-signing-key-file="$dir/pki/service-account.key" --shutdown-delay-duration=0s "$@"
  echo "$url" >>"$dir/servers"
  local user
  for user in admin user argo; do
    write_kubeconfig "$dir/$user.$name.kubeconfig" "$url" "$user"
    [ -e "$dir/$user.kubeconfig" ] || write_kubeconfig "$dir/$user.kubeconfig" "$url" "$user"
  done
}

start() {
  local name=$1
  [ -e "$dir/run/$name.cmd" ] || fail "no component $name in $dir"
  ! alive "$(cat "$dir/run/$name.pid" 2>/dev/null)" || fail "$name runs already"
  # A group of its own: an interrupt at the terminal ends the tests, and they end the components in order.
  setsid bash -c "exec $(cat "$dir/run/$name.cmd")" </dev/null >>"$dir/log/$name.log" 2>&1 &
  echo $! >"$dir/run/$name.pid"
}

wait_ready() {
  local name=$1 until=$((SECONDS + ready_seconds))
  until ready "$name"; do
    alive "$(pid_of "$name")" || fail "$name ended; the end of $dir/log/$name.log: $(tail -n 5 "$dir/log/$name.log")"
    ((SECONDS < until)) || fail "$name is not ready after $ready_seconds s; see $dir/log/$name.log"
    sleep 0.2
  done
}

ready() {
  case "$1" in
    controller-manager) [ "$(kubectl get serviceaccounts default -o name 2>/dev/null)" = serviceaccount/default ] ;;
    etcd) true ;;
    *) "$(program kubectl)" --kubeconfig "$dir/admin.$1.kubeconfig" get --raw /readyz >/dev/null 2>&1 ;;
  esac
}

stop() {
  local name=$1 signal=$2 pid
  pid=$(pid_of "$name")
  kill -s "$signal" "$pid"
  wait_end "$name" "$pid"
}

wait_end() {
  local name=$1 pid=$2 until=$((SECONDS + 30))
  while alive "$pid"; do
    if ((SECONDS >= until)); then
      say "$name did not end in 30 s: killing it"
      kill -s KILL "$pid" 2>/dev/null || true
      until=$((SECONDS + 30))
    fi
    sleep 0.05
  done
  rm -f "$dir/run/$name.pid"
}

# Those that write first, etcd last. A stopped process (SIGSTOP) must go on in order to end.
down() {
  local name pid
  for name in controller-manager $(cd "$dir/run" 2>/dev/null && ls -- *.pid 2>/dev/null | sed 's/\.pid$//' | grep -vx -e etcd -e controller-manager) etcd; do
    pid=$(cat "$dir/run/$name.pid" 2>/dev/null) || continue
    if alive "$pid"; then
      kill -s CONT "$pid" && kill -s TERM "$pid"
      wait_end "$name" "$pid"
    fi
    rm -f "$dir/run/$name.pid"
  done
}

status() {
  local cmd name pid
  printf '%-20s %-8s %-8s %-26s %s\n' COMPONENT STATE PID URL LOG
  for cmd in "$dir"/run/*.cmd; do
    [ -e "$cmd" ] || fail "no control plane in $dir"
    name=$(basename "$cmd" .cmd)
    pid=$(cat "$dir/run/$name.pid" 2>/dev/null) || pid=
    printf '%-20s %-8s %-8s %-26s %s\n' "$name" "$(alive "$pid" && echo running || echo stopped)" "${pid:--}" \
      "$(cat "$dir/run/$name.url")" "$dir/log/$name.log"
  done
}

pid_of() { cat "$dir/run/$1.pid" 2>/dev/null || fail "$1 does not run"; }

# A process that has ended but was not waited for yet (a zombie) is not alive, unless threads of it still hold its sockets.
alive() {
  [ -n "${1:-}" ] && [ -r "/proc/$1/stat" ] || return
  [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) != Z* ]] || (($(ls "/proc/$1/task" 2>/dev/null | wc -l) > 1))
}

kubectl() { "$(program kubectl)" --kubeconfig "$dir/admin.kubeconfig" "$@"; }

# --- Ports, keys, tokens ----------------------------------------------------------------------------------------------------------------

# port NAME: the same port for a component's whole life, so that it can be started again. Below the range from which the kernel gives
# ports to clients, or one of those might take it while the component is down.
port() {
  local file=$dir/ports/$1 candidate
  until [ -s "$file" ]; do
    candidate=$((20000 + RANDOM % 12000))
    grep -qx "$candidate" "$dir"/ports/* 2>/dev/null && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null || echo "$candidate" >"$file"
  done
  cat "$file"
}

# make_pki ADDRESS…: the apiservers' certificate is good for these, too.
make_pki() {
  local pki=$dir/pki names=IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc address
  for address in "$@"; do names+=,IP:$address; done
  {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=controlplane-ca -keyout "$pki/ca.key" -out "$pki/ca.crt" \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    openssl req -newkey rsa:2048 -nodes -subj /CN=kube-apiserver -keyout "$pki/apiserver.key" -out "$pki/apiserver.csr"
    openssl x509 -req -in "$pki/apiserver.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 2 -out "$pki/apiserver.crt" \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names")
    openssl genrsa -out "$pki/service-account.key" 2048
    openssl rsa -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub"
  } >"$dir/log/openssl.log" 2>&1 || fail "openssl: $(tail -n 3 "$dir/log/openssl.log")"
}

# admin may do everything and is exempt from priority and fairness, user is anybody.
make_tokens() {
  local user
  umask 077
  for user in admin user; do openssl rand -hex 16 >"$dir/$user.token"; done
  {
    echo "$(cat "$dir/admin.token"),admin,admin,system:masters"
    echo "$(cat "$dir/user.token"),user,user"
  } >"$dir/tokens.csv"
}

write_kubeconfig() {
  local file=$1 server=$2 user=$3
  cat >"$file" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: controlplane
    cluster: { server: "$server", certificate-authority: "$dir/pki/ca.crt" }
users:
  - name: $user
    user: { tokenFile: "$dir/$user.token" }
contexts:
  - name: controlplane
    context: { cluster: controlplane, user: $user }
current-context: controlplane
YAML
}

main "$@"
