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
  verbs: [list, watch]
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

{{/* And of the janitor and the pre-delete hook, which only give back (agent-cluster/src/janitor.rs and restore.rs). */}}
{{- define "agent.restoringRules" -}}
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, patch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}

{{/* The writer's Lease. Nobody can be given the right to create just one; the chart makes it, and it may get lost. */}}
{{- define "agent.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [fairlead-agent-writer]
  verbs: [get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
