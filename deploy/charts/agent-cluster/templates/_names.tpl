{{/* Names and labels. The agent recognises its own pods by instance and component. */}}

{{- define "agent.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}-agent
{{- end }}

{{/* Objects without a namespace carry the release's, so that two installations do not meet. */}}
{{- define "agent.clusterName" -}}
{{ .Release.Namespace }}-{{ include "agent.name" . }}
{{- end }}

{{- define "agent.labels" -}}
app.kubernetes.io/name: fairlead-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: fairlead
{{- end }}

{{/* Takes [root, component]. */}}
{{- define "agent.selector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* What the agent knows its own pods by. */}}
{{- define "agent.selectorText" -}}
app.kubernetes.io/instance={{ .Release.Name }},app.kubernetes.io/component=agent
{{- end }}

{{/* What the agent knows its own keys and slices by, derived as in agent-cluster/src/names.rs; a test compares them. */}}
{{- define "agent.owner" -}}
{{ printf "%s\n%s" .Release.Namespace (include "agent.selectorText" .) | sha256sum | trunc 12 }}
{{- end }}

{{/* The account that gives Services back and can do nothing else. */}}
{{- define "agent.janitorName" -}}
{{ include "agent.name" . }}-janitor
{{- end }}
