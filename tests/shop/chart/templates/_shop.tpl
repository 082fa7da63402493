{{/* What every pod of the shop has in common. */}}

{{- define "shop.podMeta" -}}
metadata:
  labels:
    app: {{ .role }}
    app.kubernetes.io/part-of: shop
{{- end }}

{{/* Both nodes serve, and nothing runs with more rights than it needs. */}}
{{- define "shop.podSpec" -}}
automountServiceAccountToken: false
terminationGracePeriodSeconds: 10
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {matchLabels: {app: {{ .role }}}}
{{- end }}

{{/* The pause before SIGTERM is the time that kube-proxy needs to send nobody here any more. */}}
{{- define "shop.container" -}}
image: {{ .root.Values.image }}
imagePullPolicy: {{ .root.Values.pullPolicy }}
lifecycle: {preStop: {sleep: {seconds: 2}}}
resources: {requests: {cpu: 5m, memory: 16Mi}, limits: {memory: 64Mi}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
