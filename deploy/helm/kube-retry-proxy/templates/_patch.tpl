{{/*
The strategic merge patch that adds the proxy to a controller's pod. It does not replace
any list, such as args.
*/}}
{{- define "krp.patch" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Values.sidecar.deployment }}
spec:
  template:
    spec:
      initContainers:
        # A native sidecar: it starts before the controller and stops after it.
        - restartPolicy: Always
          {{- include "krp.container" . | nindent 10 }}
      containers:
        - name: {{ .Values.sidecar.container }}
          {{- if eq .Values.sidecar.client "Kubeconfig" }}
          # The kubeconfig names the pod's namespace. A client without its own setting uses that.
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
        # The same files as in every pod, but ca.crt is the proxy's CA instead of the cluster's.
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
