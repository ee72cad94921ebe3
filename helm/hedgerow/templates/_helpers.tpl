{{- define "hedgerow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if contains $name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "hedgerow.labels" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hedgerow
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The sidecar's values, its ConfigMaps being this release's. */}}
{{- define "hedgerow.sidecar" -}}
{{- $names := dict "configMap" (printf "%s-config" (include "hedgerow.fullname" .)) "policiesConfigMap" (printf "%s-policies" (include "hedgerow.fullname" .)) -}}
{{- include "hedgerow.sidecar.values" (mustMergeOverwrite $names (mustDeepCopy .Values.sidecar)) -}}
{{- end -}}

{{- define "hedgerow.namespaceSelector" -}}
{{- if .Values.admission.namespaceSelector -}}
{{ toYaml .Values.admission.namespaceSelector }}
{{- else -}}
matchLabels: {hedgerow.dev/require: "true"}
{{- end -}}
{{- end -}}

{{/* What a container may not do: everything that it need not. */}}
{{- define "hedgerow.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hedgerow.console.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: console
{{- end -}}

{{/*
The console's configuration: the sidecars', without what names a secret of theirs. Who may sign in,
the policies, and of each engine only that there is one.
*/}}
{{- define "hedgerow.console.config" -}}
{{- $config := dict "identity" (mustMergeOverwrite (mustDeepCopy .Values.config.identity) (mustDeepCopy .Values.console.identity)) "policies" "/etc/hedgerow-policies" "audit" (dict "directory" "/tmp/none") -}}
{{- $_ := unset $config.identity "revocation" -}}
{{- with .Values.console.identity.revocation -}}
{{- $_ := set $config.identity "revocation" . -}}
{{- end -}}
{{- with .Values.config.postgres -}}
{{- $upstream := dict "host" "127.0.0.1" "port" 5432 "user" "nobody" -}}
{{- with (dig "upstream" "database" "" .) -}}
{{- $_ := set $upstream "database" . -}}
{{- end -}}
{{- $_ := set $config "postgres" (dict "listen" "127.0.0.1:6432" "upstream" $upstream) -}}
{{- end -}}
{{- with .Values.config.bigquery -}}
{{- $bigquery := dict "listen" "127.0.0.1:9050" "credentials" (dict "none" true) -}}
{{- with .default_project -}}
{{- $_ := set $bigquery "default_project" . -}}
{{- end -}}
{{- $_ := set $config "bigquery" $bigquery -}}
{{- end -}}
{{ toYaml $config }}
{{- end -}}
