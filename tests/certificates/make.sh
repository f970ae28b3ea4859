#!/usr/bin/env bash
# Makes the cases beside this file: what a server sends, what is trusted, and whether Go accepts it.
# Needs openssl 3 and Go. The keys are made anew in a temporary folder and not kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"

default=(-algorithm EC -pkeyopt ec_paramgen_curve:P-256)
server='subjectAltName=IP:127.0.0.1,DNS:kubernetes.default.svc\nextendedKeyUsage=serverAuth'
ca='basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign'

key() { # NAME [genpkey arguments]
  local name=$1
  shift
  if [ $# = 0 ]; then set -- "${default[@]}"; fi
  [ -e "$name.key" ] || openssl genpkey "$@" -out "$name.key" 2>/dev/null
}
signed() { # NAME ISSUER EXTENSIONS [x509 arguments]; the issuer of a self-signed one is itself
  local name=$1 issuer=$2 extensions=$3
  shift 3
  key "$name"
  printf '%b\n' "$extensions" >extensions
  local extfile=(-extfile extensions)
  [ -n "$extensions" ] || extfile=()
  openssl req -new -key "$name.key" -subj "/CN=${subject:-$name}" -out "$name.csr"
  local by=(-CA "$issuer.crt" -CAkey "$issuer.key" -CAcreateserial)
  [ "$name" != "$issuer" ] || by=(-signkey "$name.key")
  openssl x509 -req -in "$name.csr" "${by[@]}" -days 36500 "${extfile[@]}" "$@" -out "$name.crt" 2>/dev/null
}
dated() { # NAME ISSUER EXTENSIONS START END
  key "$1"
  printf '%b\n' "$3" >extensions
  openssl req -new -key "$1.key" -subj "/CN=${subject:-$1}" -out "$1.csr"
  rm -rf db && mkdir db && touch db/index.txt && echo 01 >db/serial
  printf '[ca]\ndefault_ca=d\n[d]\ndatabase=db/index.txt\nserial=db/serial\nnew_certs_dir=db\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' >db/conf
  local by=(-cert "$2.crt" -keyfile "$2.key")
  [ "$1" != "$2" ] || by=(-selfsign -keyfile "$1.key")
  openssl ca -batch -notext -config db/conf "${by[@]}" -in "$1.csr" \
    -startdate "$4" -enddate "$5" -extfile extensions -out "$1.crt" 2>/dev/null
}
case_() { # CASE NAME-TO-VERIFY KEY "CERTIFICATES SENT" "CERTIFICATES TRUSTED"
  local sent=() trusted=() each
  for each in $4; do sent+=("$each.crt"); done
  for each in $5; do trusted+=("$each.crt"); done
  mkdir -p cases
  cat "${sent[@]}" | sed -n '/BEGIN/,/END/p' >"cases/$1.sent"
  cat "${trusted[@]}" | sed -n '/BEGIN/,/END/p' >"cases/$1.trusted"
  cp "$3.key" "cases/$1.key"
  echo "$2" >"cases/$1.name"
}
simple() { case_ "$1" 127.0.0.1 "$2" "$2" "${3:-root}"; } # CASE SERVER [TRUSTED]

signed root root "$ca"
signed other root "$ca" # an intermediate
signed stranger stranger "$ca"

# Keys of the server.
for bits in 1024 2048 3072 4096 8192; do
  key "rsa-$bits" -algorithm RSA -pkeyopt "rsa_keygen_bits:$bits"
  signed "rsa-$bits" root "$server"
  simple "key-rsa-$bits" "rsa-$bits"
done
for curve in P-224 P-256 P-384 P-521 secp256k1; do
  key "ec-$curve" -algorithm EC -pkeyopt "ec_paramgen_curve:$curve"
  signed "ec-$curve" root "$server"
  simple "key-$curve" "ec-$curve"
done
for kind in ED25519 ED448; do
  key "$kind" -algorithm "$kind"
  signed "$kind" root "$server"
  simple "key-$kind" "$kind"
done
key rsa-pss -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
signed rsa-pss root "$server"
simple key-rsa-pss rsa-pss
key explicit -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit
signed explicit root "$server"
simple key-explicit-curve explicit

# Signatures of the CA.
for curve in P-224 P-256 P-384 P-521; do
  key "ca-$curve" -algorithm EC -pkeyopt "ec_paramgen_curve:$curve"
  signed "ca-$curve" "ca-$curve" "$ca"
  for hash in sha1 sha224 sha256 sha384 sha512; do
    signed "by-$curve-$hash" "ca-$curve" "$server" "-$hash"
    simple "signature-$curve-$hash" "by-$curve-$hash" "ca-$curve"
  done
done
for bits in 1024 2048 3072 4096 8192; do
  cp "rsa-$bits.key" "ca-rsa-$bits.key"
  signed "ca-rsa-$bits" "ca-rsa-$bits" "$ca"
done
for hash in md5 sha1 sha224 sha256 sha384 sha512; do
  signed "by-rsa-$hash" ca-rsa-2048 "$server" "-$hash"
  simple "signature-rsa-2048-$hash" "by-rsa-$hash" ca-rsa-2048
done
for bits in 1024 3072 4096 8192; do
  signed "by-rsa-$bits" "ca-rsa-$bits" "$server"
  simple "signature-rsa-$bits" "by-rsa-$bits" "ca-rsa-$bits"
done
for hash in sha256 sha384 sha512; do
  signed "by-pss-$hash" ca-rsa-2048 "$server" "-$hash" -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest
  simple "signature-rsa-pss-$hash" "by-pss-$hash" ca-rsa-2048
done
signed by-pss-salt ca-rsa-2048 "$server" -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20
simple signature-rsa-pss-short-salt by-pss-salt ca-rsa-2048
key ca-ed -algorithm ED25519
signed ca-ed ca-ed "$ca"
signed by-ed ca-ed "$server"
simple signature-ed25519 by-ed ca-ed
signed root-sha1 root-sha1 "$ca" -sha1
signed under-sha1 root-sha1 "$server"
simple root-signed-with-sha1 under-sha1 root-sha1

# The server's certificate itself is trusted.
signed self self "$ca\nsubjectAltName=IP:127.0.0.1"
simple self-signed-ca self self
signed self-leaf self-leaf "basicConstraints=CA:FALSE\n$server"
simple self-signed-not-ca self-leaf self-leaf
signed self-plain self-plain "subjectAltName=IP:127.0.0.1"
simple self-signed-without-constraints self-plain self-plain
signed self-usage self-usage "$ca\nsubjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth"
simple self-signed-for-clients self-usage self-usage
signed self-name self-name "$ca\nsubjectAltName=IP:10.0.0.1"
simple self-signed-for-another-address self-name self-name
signed self-old self-old "$ca\nsubjectAltName=IP:127.0.0.1" -days 30
simple self-signed-expired self-old self-old
simple self-signed-unknown self root
subject=self signed self-twin self-twin "$ca\nsubjectAltName=IP:127.0.0.1"
simple self-signed-of-the-same-name self self-twin
signed pinned stranger "$server"
simple pinned-without-its-issuer pinned pinned
signed pinned-ca stranger "$ca\nsubjectAltName=IP:127.0.0.1"
simple pinned-ca-without-its-issuer pinned-ca pinned-ca
signed self-critical self-critical "$ca\nsubjectAltName=IP:127.0.0.1\n1.2.3.4=critical,ASN1:NULL"
simple self-signed-critical-extension self-critical self-critical
# A trusted server may not issue certificates.
signed by-leaf self-leaf "$server"
simple issued-by-a-trusted-server by-leaf self-leaf

# CAs.
signed v1 v1 ""
signed under-v1 v1 "$server"
simple ca-of-version-1 under-v1 v1
signed v1-mid root ""
signed under-v1-mid v1-mid "$server"
case_ intermediate-of-version-1 127.0.0.1 under-v1-mid "under-v1-mid v1-mid" root
signed bare bare "subjectKeyIdentifier=hash"
signed under-bare bare "$server"
simple ca-without-basic-constraints under-bare bare
signed nousage nousage "basicConstraints=critical,CA:TRUE"
signed under-nousage nousage "$server"
simple ca-without-key-usage under-nousage nousage
signed wrongusage wrongusage "basicConstraints=critical,CA:TRUE\nkeyUsage=digitalSignature"
signed under-wrongusage wrongusage "$server"
simple ca-with-another-key-usage under-wrongusage wrongusage
signed notca root "basicConstraints=critical,CA:FALSE"
signed under-notca notca "$server"
case_ intermediate-that-is-no-ca 127.0.0.1 under-notca "under-notca notca" root
signed oldca oldca "$ca" -days 30
signed under-oldca oldca "$server"
simple ca-expired under-oldca oldca
dated future future "$ca" 20400101000000Z 20500101000000Z
signed under-future future "$server"
simple ca-not-yet-valid under-future future
signed critical critical "$ca\n1.2.3.4=critical,ASN1:NULL"
signed under-critical critical "$server"
simple ca-with-unknown-critical-extension under-critical critical
signed policy root "$ca\ncertificatePolicies=critical,1.2.3.4"
signed under-policy policy "$server\ncertificatePolicies=critical,1.2.3.4"
case_ critical-policies 127.0.0.1 under-policy "under-policy policy" root
signed pathlen0 pathlen0 "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=keyCertSign"
signed under-pathlen0 pathlen0 "$server"
simple path-length-0 under-pathlen0 pathlen0
signed leafca-pathlen0 pathlen0 "$ca\nsubjectAltName=IP:127.0.0.1"
simple path-length-0-above-a-server-that-is-a-ca leafca-pathlen0 pathlen0
signed mid-pathlen0 pathlen0 "$ca"
signed under-mid-pathlen0 mid-pathlen0 "$server"
case_ path-length-0-above-an-intermediate 127.0.0.1 under-mid-pathlen0 "under-mid-pathlen0 mid-pathlen0" pathlen0
signed euca euca "$ca\nextendedKeyUsage=clientAuth"
signed under-euca euca "$server"
simple ca-for-clients-only under-euca euca
signed eumid root "$ca\nextendedKeyUsage=clientAuth"
signed under-eumid eumid "$server"
case_ intermediate-for-clients-only 127.0.0.1 under-eumid "under-eumid eumid" root

# Servers.
signed leafca root "$ca\nsubjectAltName=IP:127.0.0.1"
simple server-that-is-a-ca leafca
signed noeku root "subjectAltName=IP:127.0.0.1"
simple purpose-missing noeku
signed clienteku root "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth"
simple purpose-client-only clienteku
signed anyeku root "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=anyExtendedKeyUsage"
simple purpose-any anyeku
signed botheku root "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=clientAuth,serverAuth"
simple purpose-both botheku
signed usage root "$server\nkeyUsage=keyEncipherment"
simple key-usage-encipherment usage
signed crit root "$server\n1.2.3.4=critical,ASN1:NULL"
simple server-with-unknown-critical-extension crit
signed uncrit root "$server\n1.2.3.4=ASN1:NULL"
simple server-with-unknown-extension uncrit
signed zero root "$server" -set_serial 0
simple serial-0 zero
signed negative root "$server" -set_serial -5
simple serial-negative negative
signed long root "$server" -set_serial 0x7fffffffffffffffffffffffffffffffffffffffffffffffffffff
simple serial-of-27-bytes long
signed old root "$server" -days 30
simple expired old
dated young root "$server" 20400101000000Z 20500101000000Z
simple not-yet-valid young
dated generalized root "$server" 20260101000000Z 99991231235959Z
simple valid-until-9999 generalized
signed emptysubject root "subjectAltName=critical,IP:127.0.0.1"
simple critical-names emptysubject

# Names.
subject=127.0.0.1 signed cnonly root "extendedKeyUsage=serverAuth"
simple name-only-in-the-subject cnonly
signed noname root "extendedKeyUsage=serverAuth"
case_ name-missing kubernetes.default.svc noname noname root
signed names root "subjectAltName=DNS:kubernetes.default.svc,DNS:*.example.com,DNS:*.local,DNS:f*.example.org,DNS:UPPER.example.net,DNS:127.0.0.2,DNS:under_score.example.net,DNS:dot.example.net.,IP:::1,IP:10.0.0.1"
for name in kubernetes.default.svc KUBERNETES.default.svc kubernetes.default.svc. a.example.com a.b.example.com example.com \
  kube.local foo.example.org upper.example.net under_score.example.net dot.example.net 127.0.0.2 ::1 10.0.0.1 10.0.0.2; do
  case_ "name-${name//:/_}" "$name" names names root
done

# Name constraints.
constrained() { # CASE CONSTRAINTS [NAMES]
  signed "nc-$1" root "$ca\nnameConstraints=$2"
  signed "under-nc-$1" "nc-$1" "subjectAltName=${3:-IP:127.0.0.1,DNS:kubernetes.default.svc}"
  case_ "constraints-$1" 127.0.0.1 "under-nc-$1" "under-nc-$1 nc-$1" root
}
constrained address-permitted 'critical,permitted;IP:127.0.0.0/255.0.0.0'
constrained address-not-permitted 'critical,permitted;IP:10.0.0.0/255.0.0.0'
constrained address-excluded 'critical,excluded;IP:127.0.0.0/255.255.255.0'
constrained other-family 'critical,permitted;IP:fd00::/ffff::'
constrained domain-permitted 'critical,permitted;DNS:svc'
constrained domain-itself 'critical,permitted;DNS:kubernetes.default.svc'
constrained domain-below-only 'critical,permitted;DNS:.kubernetes.default.svc'
constrained domain-half-a-label 'critical,permitted;DNS:rnetes.default.svc'
constrained domain-not-permitted 'critical,permitted;DNS:example.com'
constrained domain-excluded 'critical,excluded;DNS:default.svc'
constrained domain-excluded-elsewhere 'critical,excluded;DNS:example.com'
constrained wildcard-excluded 'critical,excluded;DNS:secret.example.com' 'IP:127.0.0.1,DNS:*.example.com'
constrained not-critical 'permitted;DNS:example.com'
constrained mail-without-mail 'critical,permitted;email:example.com'
constrained directory 'critical,permitted;dirName:dir_sect\n[dir_sect]\nO=x'
signed nc-root nc-root "$ca\nnameConstraints=critical,permitted;DNS:example.com"
signed under-nc-root nc-root "$server"
simple constraints-of-the-root under-nc-root nc-root
signed nc-leaf root "$server\nnameConstraints=critical,permitted;DNS:example.com"
simple constraints-of-the-server nc-leaf

# Chains.
signed mid root "$ca"
signed mid2 mid "$ca"
signed deep mid2 "$server"
case_ chain 127.0.0.1 deep "deep mid2 mid" root
case_ chain-in-wrong-order 127.0.0.1 deep "deep mid mid2" root
case_ chain-with-root 127.0.0.1 deep "deep mid2 mid root" root
case_ chain-with-strangers 127.0.0.1 deep "deep stranger mid2 other self mid" root
case_ chain-with-duplicates 127.0.0.1 deep "deep deep mid2 mid2 mid mid" root
case_ chain-with-negative-serial-extra 127.0.0.1 deep "deep mid2 mid negative" root
case_ chain-incomplete 127.0.0.1 deep "deep mid2" root
case_ chain-completed-by-the-bundle 127.0.0.1 deep "deep" "mid2"
case_ chain-bundle-with-strangers 127.0.0.1 deep "deep mid2 mid" "stranger self root root"
cp mid.key midold.key
subject=mid signed midold root "$ca" -days 30
case_ intermediate-expired 127.0.0.1 deep "deep mid2 midold" root
case_ intermediate-expired-beside-a-good-one 127.0.0.1 deep "deep mid2 midold mid" root
cp root.key rootold.key
subject=root signed rootold rootold "$ca" -days 30
case_ root-expired-beside-its-renewal 127.0.0.1 deep "deep mid2 mid" "rootold root"
cp root.key rootnew.key
subject=root signed rootnew rootnew "$ca"
case_ root-renewed-with-the-same-key 127.0.0.1 deep "deep mid2 mid" "rootnew"
cp mid.key cross.key
subject=mid signed cross stranger "$ca"
case_ cross-signed-old-root 127.0.0.1 deep "deep mid2 mid cross" root
case_ cross-signed-new-root 127.0.0.1 deep "deep mid2 mid cross" stranger
case_ cross-signed-neither 127.0.0.1 deep "deep mid2 mid cross" self
subject=mid signed impostor root "$ca"
case_ issuer-of-the-same-name-with-another-key 127.0.0.1 deep "deep mid2 impostor" root
case_ issuer-of-the-same-name-beside-the-right-one 127.0.0.1 deep "deep mid2 impostor mid" root
last=root sent=
for depth in 1 2 3 4 5 6 7 8 9 10; do
  signed "d$depth" "$last" "$ca"
  last=d$depth sent="d$depth $sent"
done
signed deepest "$last" "$server"
case_ chain-of-10-intermediates 127.0.0.1 deepest "deepest $sent" root

go run "$here/oracle.go" cases
rm -f "$here"/*.case
for each in cases/*.name; do
  each=${each%.name}
  {
    echo "name: $(cat "$each.name")"
    echo "go: $(cat "$each.verdict")"
    cat "$each.sent"
    echo "trusted:"
    cat "$each.trusted"
  } >"$here/$(basename "$each").case"
done
ls "$here"/*.case | wc -l
