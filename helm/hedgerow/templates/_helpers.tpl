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
