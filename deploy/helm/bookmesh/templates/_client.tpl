{{/* What client Deployment and Job have in common. */}}

{{- define "bookmesh.clientEnv" -}}
{{ include "bookmesh.etcdEnv" (list . "BOOK_CLIENT") }}
- {name: BOOK_CLIENT_ZIPKIN, value: {{ include "bookmesh.zipkinUrl" . | quote }}}
- {name: BOOK_CLIENT_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
- {name: BOOK_CLIENT_LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
{{- with .Values.client }}
- {name: BOOK_CLIENT_INTERVAL, value: {{ .interval | quote }}}
- {name: BOOK_CLIENT_CONCURRENCY, value: {{ .concurrency | int | quote }}}
- {name: BOOK_CLIENT_ATTEMPTS, value: {{ .attempts | int | quote }}}
- {name: BOOK_CLIENT_TIMEOUT, value: {{ .timeout | quote }}}
- {name: BOOK_CLIENT_INVALIDATE_AFTER, value: {{ .invalidateAfter | quote }}}
- {name: BOOK_CLIENT_BREAKER_TIMEOUT, value: {{ .breaker.timeout | quote }}}
- {name: BOOK_CLIENT_BREAKER_ERROR_PERCENT, value: {{ .breaker.errorPercent | quote }}}
- {name: BOOK_CLIENT_BREAKER_SLEEP, value: {{ .breaker.sleep | quote }}}
- {name: BOOK_CLIENT_BREAKER_MAX_CONCURRENT, value: {{ .breaker.maxConcurrent | int | quote }}}
- {name: BOOK_CLIENT_BREAKER_VOLUME, value: {{ .breaker.volume | int | quote }}}
{{- end }}
{{- if .Values.tls.enabled }}
- {name: BOOK_CLIENT_TLS_CA, value: /tls/ca.crt}
- {name: BOOK_CLIENT_TLS_CERT, value: /tls/tls.crt}
- {name: BOOK_CLIENT_TLS_KEY, value: /tls/tls.key}
- {name: BOOK_CLIENT_TLS_SERVER_NAME, value: {{ include "bookmesh.tlsName" . | quote }}}
{{- end }}
{{- end -}}

{{/*
Waits until a first call succeeds, so that what the client then logs and counts is not the release's own coming up.
*/}}
{{- define "bookmesh.clientWait" -}}
name: wait-for-servers
image: {{ include "bookmesh.image" (list . .Values.client.image) }}
imagePullPolicy: {{ .Values.client.image.pullPolicy }}
securityContext: {{- include "bookmesh.containerSecurity" . | nindent 2 }}
args: ["--calls=1", "--interval=0s", "--timeout=300s", "--breaker-timeout=300s"]
env: {{- include "bookmesh.clientEnv" . | nindent 2 }}
  {{- with .Values.client.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources: {{- toYaml .Values.client.resources | nindent 2 }}
{{- with include "bookmesh.secretMounts" . }}
volumeMounts: {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes (list . calls). */}}
{{- define "bookmesh.clientContainer" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.client -}}
name: book-client
image: {{ include "bookmesh.image" (list $root .image) }}
imagePullPolicy: {{ .image.pullPolicy }}
securityContext: {{- include "bookmesh.containerSecurity" $root | nindent 2 }}
env: {{- include "bookmesh.clientEnv" $root | nindent 2 }}
  - {name: BOOK_CLIENT_CALLS, value: {{ index $ 1 | int | quote }}}
  {{- with .extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources: {{- toYaml .resources | nindent 2 }}
{{- end }}
{{- with include "bookmesh.secretMounts" $root }}
volumeMounts: {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Of the client's pods: which container `kubectl logs` means. */}}
{{- define "bookmesh.clientAnnotations" -}}
{{- merge (dict "kubectl.kubernetes.io/default-container" "book-client") .Values.client.podAnnotations | toYaml -}}
{{- end -}}
