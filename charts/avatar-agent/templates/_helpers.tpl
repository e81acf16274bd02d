{{- define "avatar-agent.labels" -}}
app.kubernetes.io/name: avatar-agent
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "avatar-agent.selector" -}}
app.kubernetes.io/name: avatar-agent
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "avatar-agent.fullname" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "avatar-agent.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "avatar-agent.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Annotations of a pod by which Prometheus finds it without the Prometheus operator. */}}
{{- define "avatar-agent.scrape" -}}
{{- if .root.Values.monitoring.scrapeAnnotations -}}
annotations: {prometheus.io/scrape: "true", prometheus.io/port: {{ .port | quote }}, prometheus.io/path: /metrics}
{{- end }}
{{- end }}

{{/* Role when one namespace is served, ClusterRole when all are. */}}
{{- define "avatar-agent.scope" -}}
{{ if .Values.watchNamespace }}Role{{ else }}ClusterRole{{ end }}
{{- end }}

{{/* The namespace of an agent that a request names without one. */}}
{{- define "avatar-agent.defaultNamespace" -}}
{{- $served := .Values.watchNamespace }}
{{- $wanted := .Values.gateway.defaultNamespace }}
{{- if and $served $wanted (ne $served $wanted) }}
{{- fail (printf "gateway.defaultNamespace is %s, but only agents in watchNamespace %s are served: leave gateway.defaultNamespace out" $wanted $served) }}
{{- end }}
{{- $wanted | default $served | default .Release.Namespace }}
{{- end }}

{{/* The nodes that a pod may run on, without its affinity. */}}
{{- define "avatar-agent.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
