{{/*
The native sidecar: an init container that is restarted always. It starts before the application's
containers, which wait for its startup probe, and ends after them. It has no preStop hook: that would
run at the beginning of the pod's end, while the application still works.

initContainers:
  {{- include "hedgerow.sidecar.container" .Values.hedgerow | nindent 8 }}
*/}}
{{- define "hedgerow.sidecar.container" -}}
{{- $values := include "hedgerow.sidecar.values" . | fromYaml -}}
- name: hedgerow
  image: {{ include "hedgerow.sidecar.image" $values | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  restartPolicy: Always
  args:
    - serve
    - --config
    - /etc/hedgerow/hedgerow.yaml
    {{- range $values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: HEDGEROW_LOG_LEVEL
      value: {{ $values.logLevel | quote }}
    {{- if $values.audit.existingClaim }}
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    {{- end }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: hr-admin
      containerPort: {{ $values.ports.admin | int }}
      protocol: TCP
  # The application waits for it: policies are loaded, keys are there.
  startupProbe:
    httpGet: {path: /startup, port: hr-admin}
    periodSeconds: 1
    failureThreshold: 120
  # It does not dial the database: an outage there must not take every pod out of service.
  readinessProbe:
    httpGet: {path: /readyz, port: hr-admin}
    periodSeconds: 5
  livenessProbe:
    httpGet: {path: /livez, port: hr-admin}
    periodSeconds: 10
    failureThreshold: 6
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: hedgerow-config, mountPath: /etc/hedgerow, readOnly: true}
    - {name: hedgerow-policies, mountPath: /etc/hedgerow-policies, readOnly: true}
    # The credentials: mounted here, and in no other container.
    - {name: hedgerow-secret, mountPath: /run/secrets/hedgerow, readOnly: true}
    {{- if $values.audit.existingClaim }}
    # A directory a pod: a chain has one writer, and pods share the claim.
    - {name: hedgerow-audit, mountPath: /var/lib/hedgerow, subPathExpr: $(POD_NAME)}
    {{- else }}
    - {name: hedgerow-audit, mountPath: /var/lib/hedgerow}
    {{- end }}
{{- end -}}

{{- define "hedgerow.sidecar.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default "0.1.0" }}
{{- end -}}
{{- end -}}

{{/*
The volumes that the container mounts.
*/}}
{{- define "hedgerow.sidecar.volumes" -}}
{{- $values := include "hedgerow.sidecar.values" . | fromYaml -}}
- name: hedgerow-config
  configMap: {name: {{ $values.configMap | quote }}}
- name: hedgerow-policies
  configMap: {name: {{ $values.policiesConfigMap | quote }}}
- name: hedgerow-secret
  secret: {secretName: {{ $values.secret | quote }}, defaultMode: 0440}
- name: hedgerow-audit
  {{- if $values.audit.existingClaim }}
  persistentVolumeClaim: {claimName: {{ $values.audit.existingClaim | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ $values.audit.sizeLimit | quote }}}
  {{- end }}
{{- end -}}

{{/*
Labels by which NetworkPolicy, PodMonitor and the admission policies know the pod.
*/}}
{{- define "hedgerow.sidecar.labels" -}}
hedgerow.dev/sidecar: "true"
{{- end -}}

{{/*
What the pod's own securityContext needs: the sidecar's group must read the Secret.
*/}}
{{- define "hedgerow.sidecar.podSecurityContext" -}}
fsGroup: 65532
{{- end -}}
