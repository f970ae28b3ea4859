{{- define "krp.name" -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "krp.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "krp.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{ include "krp.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/component: proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "krp.tlsSecret" -}}
{{ .Values.tls.secretName | default (printf "%s-tls" (include "krp.name" .)) }}
{{- end }}

{{/* The host names by which clients reach the proxy, as JSON. */}}
{{- define "krp.hosts" -}}
{{- $short := printf "%s.%s" (include "krp.name" .) .Release.Namespace }}
{{- concat (list (printf "%s.svc" $short) (printf "%s.svc.cluster.local" $short) $short) .Values.tls.extraHosts | toJson }}
{{- end }}

{{/* The configuration without apiVersion and kind. */}}
{{- define "krp.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if .Values.upstream.discover }}{{ $config = merge (dict "upstream" (dict "discover" "Kubernetes")) $config }}{{ end }}
{{- if .Values.events.enabled }}{{ $config = merge (dict "events" (dict "enabled" true)) $config }}{{ end }}
{{- if .Values.fullQuotas.enabled }}
{{- $waiting := dict "exceededQuota" (dict "enabled" true) "fullQuotas" (dict "watch" true) }}
{{- $config = merge (dict "replay" $waiting) $config }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* drain.timeout in seconds. The schema allows minutes and seconds. */}}
{{- define "krp.drainSeconds" -}}
{{- $timeout := dig "drain" "timeout" "20s" .Values.config }}
{{- add (mul 60 (regexFind "^[0-9]+m" $timeout | trimSuffix "m" | int)) (regexFind "[0-9]+s$" $timeout | trimSuffix "s" | int) }}
{{- end }}

{{/* values.yaml explains the formula. The schema allows Mi and Gi. */}}
{{- define "krp.resources" -}}
{{- $mebibytes := 32 }}
{{- range list (dig "creates" "maxBuffered" "256Mi" .Values.config) (dig "upstream" "maxUnread" "96Mi" .Values.config) }}
{{- $mebibytes = add $mebibytes (mul (regexFind "^[0-9]+" . | int) (ternary 1024 1 (hasSuffix "Gi" .))) }}
{{- end }}
{{- $connections := dig "serving" "maxConnections" 10000 .Values.config | int }}
{{- $requests := dig "serving" "maxRequests" 20000 .Values.config | int }}
{{- $limit := printf "%dMi" (add $mebibytes (div (add (mul 48 $connections) (mul 8 $requests)) 1024)) }}
{{- $derived := dict "requests" (dict "memory" "128Mi") "limits" (dict "memory" $limit) }}
{{- toYaml (merge (deepCopy .Values.resources) $derived) }}
{{- end }}

{{/* The proxy's container. Only its certificate, address and lifecycle depend on the shape. */}}
{{- define "krp.container" -}}
{{- $sidecar := eq .Values.shape "Sidecar" }}
{{- $selfSigned := and $sidecar (eq .Values.sidecar.client "Kubeconfig") }}
{{- if and $sidecar .Values.frontProxy.secretName }}
{{- fail "frontProxy.secretName works only with shape Deployment: whoever reads the Secret can be any user, so it must not be in a controller's pod" }}
{{- end -}}
name: kube-retry-proxy
image: {{ required "image.repository is required: no image is published, so build deploy/Dockerfile" .Values.image.repository }}
  {{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args:
  - serve
  - --config=/etc/kube-retry-proxy/config.yaml
  {{- if $sidecar }}
  - --bind-address=127.0.0.1
  {{- end }}
  {{- if $selfSigned }}
  - --self-signed-dir=/var/run/kube-retry-proxy
  {{- else }}
  - --tls-cert-file=/etc/kube-retry-proxy-tls/tls.crt
  - --tls-private-key-file=/etc/kube-retry-proxy-tls/tls.key
  {{- end }}
  {{- if .Values.frontProxy.secretName }}
  - --client-ca-file=/etc/kube-retry-proxy-clients/ca.crt
  - --front-proxy-cert-file=/etc/kube-retry-proxy-front-proxy/tls.crt
  - --front-proxy-key-file=/etc/kube-retry-proxy-front-proxy/tls.key
  {{- end }}
env:
  - name: TOKIO_WORKER_THREADS
    value: {{ .Values.workerThreads | quote }}
ports:
  {{- if not $sidecar }}
  - name: https
    containerPort: 8443
  {{- end }}
  - name: proxy-admin
    containerPort: 8080
# When this probe succeeds, the kubeconfig is written and the proxy accepts connections.
startupProbe:
  httpGet: { path: /livez, port: proxy-admin }
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet: { path: /livez, port: proxy-admin }
  timeoutSeconds: 5
{{- if not $sidecar }}
readinessProbe:
  httpGet: { path: /readyz, port: proxy-admin }
  periodSeconds: 5
  timeoutSeconds: 2
# Waits until every node has removed this pod from the Service.
lifecycle:
  preStop:
    sleep: { seconds: 5 }
{{- end }}
resources:
  {{- include "krp.resources" . | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: { drop: [ALL] }
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  seccompProfile: { type: RuntimeDefault }
volumeMounts:
  - { name: kube-retry-proxy-config, mountPath: /etc/kube-retry-proxy, readOnly: true }
  # Replaces the service account's volume. The proxy needs only what is projected here.
  - { name: kube-retry-proxy-cluster, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true }
  {{- if $selfSigned }}
  - { name: kube-retry-proxy, mountPath: /var/run/kube-retry-proxy }
  {{- else }}
  - { name: kube-retry-proxy-tls, mountPath: /etc/kube-retry-proxy-tls, readOnly: true }
  {{- end }}
  {{- if .Values.frontProxy.secretName }}
  - { name: kube-retry-proxy-clients, mountPath: /etc/kube-retry-proxy-clients, readOnly: true }
  - { name: kube-retry-proxy-front-proxy, mountPath: /etc/kube-retry-proxy-front-proxy, readOnly: true }
  {{- end }}
{{- end }}

{{- define "krp.volumes" -}}
- name: kube-retry-proxy-config
  configMap: { name: {{ include "krp.name" . }} }
- name: kube-retry-proxy-cluster
  projected:
    sources:
      - configMap:
          name: kube-root-ca.crt
          items: [{ key: ca.crt, path: ca.crt }]
      - downwardAPI:
          items: [{ path: namespace, fieldRef: { fieldPath: metadata.namespace } }]
      {{- if or .Values.upstream.discover .Values.events.enabled .Values.fullQuotas.enabled }}
      - serviceAccountToken: { path: token, expirationSeconds: 3607 }
      {{- end }}
{{- if and (eq .Values.shape "Sidecar") (eq .Values.sidecar.client "Kubeconfig") }}
# In memory, because it contains the private key.
- name: kube-retry-proxy
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
{{- else }}
- name: kube-retry-proxy-tls
  secret: { secretName: {{ include "krp.tlsSecret" . }} }
{{- end }}
{{- if .Values.frontProxy.secretName }}
- name: kube-retry-proxy-clients
  configMap: { name: {{ .Values.frontProxy.clientCaConfigMap }} }
# Only the proxy's user reads the key.
- name: kube-retry-proxy-front-proxy
  secret: { secretName: {{ .Values.frontProxy.secretName }}, defaultMode: 0440 }
{{- end }}
{{- end }}
