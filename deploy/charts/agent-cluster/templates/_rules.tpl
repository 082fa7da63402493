{{/*
The agent's rights in a namespace that it serves: what agent-cluster/src/watch.rs reads and agent-cluster/src/apply/
writes, compared by a test. `patch` on Services is much more than the agent needs; guard.yaml takes the rest away.
*/}}
{{- define "agent.servedRules" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, patch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
