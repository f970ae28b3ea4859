{{/* The strategic-merge patch that puts the proxy beside a controller. It adds and never replaces a list such as args. */}}
{{- define "krp.patch" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Values.sidecar.deployment }}
spec:
  template:
    spec:
      initContainers:
        # A native sidecar: starts before the controller and stops after it.
        - restartPolicy: Always
          {{- include "krp.container" . | nindent 10 }}
      containers:
        - name: {{ .Values.sidecar.container }}
          {{- if eq .Values.sidecar.client "Kubeconfig" }}
          # Without a namespace of its own the client goes on to take that of its pod.
          env:
            - { name: KUBECONFIG, value: /var/run/kube-retry-proxy/kubeconfig }
          volumeMounts:
            - { name: kube-retry-proxy, mountPath: /var/run/kube-retry-proxy, readOnly: true }
      volumes:
        {{- else }}
          env:
            - { name: KUBERNETES_SERVICE_HOST, value: 127.0.0.1 }
            - { name: KUBERNETES_SERVICE_PORT, value: "8443" }
          volumeMounts:
            - { name: kube-retry-proxy-client, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true }
      volumes:
        # What every pod finds there, but with the proxy's CA in the place of the cluster's.
        - name: kube-retry-proxy-client
          projected:
            sources:
              - serviceAccountToken: { path: token, expirationSeconds: 3607 }
              - secret:
                  name: {{ include "krp.tlsSecret" . }}
                  items: [{ key: ca.crt, path: ca.crt }]
              - downwardAPI:
                  items: [{ path: namespace, fieldRef: { fieldPath: metadata.namespace } }]
        {{- end }}
        {{- include "krp.volumes" . | nindent 8 }}
{{- end }}
