{{/*
Values of the sidecar: the caller's, over these defaults. Used as
{{- $sidecar := include "hedgerow.sidecar.values" .Values.hedgerow | fromYaml }}
*/}}
{{- define "hedgerow.sidecar.values" -}}
{{- $defaults := include "hedgerow.sidecar.defaults" . | fromYaml -}}
{{- mustMergeOverwrite $defaults (. | default dict | mustDeepCopy) | toYaml -}}
{{- end -}}

{{- define "hedgerow.sidecar.defaults" -}}
image:
  repository: ghcr.io/hedgerow/hedgerow
  # A digest wins over a tag.
  tag: ""
  digest: ""
  pullPolicy: IfNotPresent
# The ConfigMap with hedgerow.yaml, and the one with the policies.
configMap: hedgerow-config
policiesConfigMap: hedgerow-policies
# The Secret with what only the sidecar may read: the database's password, key files.
secret: hedgerow-upstream
# Where audit records lie: an emptyDir by default, or the name of a claim.
audit:
  existingClaim: ""
  sizeLimit: 1Gi
ports:
  postgres: 6432
  admin: 9187
resources:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {memory: 256Mi}
logLevel: info
extraArgs: []
extraEnv: []
{{- end -}}
