{{/* What the pods of agent, janitor and hook have in common. */}}

{{/* Nothing here needs root, a writable disk or a capability: the restricted profile, and a little more. */}}
{{/* Takes [root, account]. */}}
{{- define "agent.podSpec" -}}
{{- $root := index . 0 -}}
serviceAccountName: {{ index . 1 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "agent.container" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "agent.probes" -}}
livenessProbe: {httpGet: {path: /healthz, port: health}, periodSeconds: 10, failureThreshold: 6}
readinessProbe: {httpGet: {path: /readyz, port: health}, periodSeconds: 2}
ports:
- {name: health, containerPort: 8081}
{{- end }}

{{/* Where this pod is and what it may look at. */}}
{{- define "agent.place" -}}
- {name: FAIRLEAD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: FAIRLEAD_POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- name: FAIRLEAD_AGENT_SELECTOR
  value: {{ include "agent.selectorText" . }}
- {name: FAIRLEAD_NAMESPACES, value: {{ join "," .Values.namespaces | quote }}}
- {name: FAIRLEAD_LOG, value: {{ .Values.logLevel | quote }}}
{{- end }}
