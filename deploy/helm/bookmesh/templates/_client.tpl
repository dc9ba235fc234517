{{/* What client Deployment and Job have in common. */}}

{{- define "bookmesh.clientEnv" -}}
{{ include "bookmesh.etcdEnv" (list . "BOOK_CLIENT") }}
{{ include "bookmesh.tracingEnv" (list . "BOOK_CLIENT") }}
- {name: BOOK_CLIENT_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
- {name: BOOK_CLIENT_LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
- {name: BOOK_CLIENT_MAX_MESSAGE_BYTES, value: {{ .Values.maxMessageBytes | toJson | quote }}}
{{- with .Values.client }}
- {name: BOOK_CLIENT_INTERVAL, value: {{ .interval | quote }}}
- {name: BOOK_CLIENT_CONCURRENCY, value: {{ .concurrency | toJson | quote }}}
- {name: BOOK_CLIENT_BALANCER, value: {{ .balancer | quote }}}
- {name: BOOK_CLIENT_ATTEMPTS, value: {{ .attempts | toJson | quote }}}
- {name: BOOK_CLIENT_TIMEOUT, value: {{ .timeout | quote }}}
- {name: BOOK_CLIENT_INVALIDATE_AFTER, value: {{ .invalidateAfter | quote }}}
- {name: BOOK_CLIENT_BREAKER_TIMEOUT, value: {{ .breaker.timeout | quote }}}
- {name: BOOK_CLIENT_BREAKER_ERROR_PERCENT, value: {{ .breaker.errorPercent | toJson | quote }}}
- {name: BOOK_CLIENT_BREAKER_SLEEP, value: {{ .breaker.sleep | quote }}}
- {name: BOOK_CLIENT_BREAKER_MAX_CONCURRENT, value: {{ .breaker.maxConcurrent | toJson | quote }}}
- {name: BOOK_CLIENT_BREAKER_VOLUME, value: {{ .breaker.volume | toJson | quote }}}
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
env: {{- include "bookmesh.env" (list (include "bookmesh.clientEnv" .) .Values.client) | nindent 2 }}
resources: {{ toJson .Values.client.resources }}
{{ include "bookmesh.volumeMounts" (list (include "bookmesh.secretMounts" .) .Values.client) }}
{{- end -}}

{{/* Takes (list . calls). */}}
{{- define "bookmesh.clientContainer" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.client -}}
name: book-client
image: {{ include "bookmesh.image" (list $root .image) }}
imagePullPolicy: {{ .image.pullPolicy }}
securityContext: {{- include "bookmesh.containerSecurity" $root | nindent 2 }}
env:
  {{- $own := printf "- {name: BOOK_CLIENT_CALLS, value: %q}" (index $ 1 | toJson) }}
  {{- $own = printf "%s\n- {name: BOOK_CLIENT_ADMIN_ACTIONS, value: %q}" $own ($root.Values.admin.actions | toJson) }}
  {{- $own = printf "%s\n%s" $own (include "bookmesh.adminEnv" (list $root "BOOK_CLIENT")) }}
  {{- include "bookmesh.env" (list (printf "%s\n%s" (include "bookmesh.clientEnv" $root) $own) .) | nindent 2 }}
{{- if $root.Values.admin.enabled }}
ports:
  - {{ include "bookmesh.adminPort" $root }}
{{- end }}
resources: {{ toJson .resources }}
{{ include "bookmesh.volumeMounts" (list (include "bookmesh.secretMounts" $root) .) }}
{{- end }}
{{- end -}}

{{/* Of the client's pods: which container `kubectl logs` means. */}}
{{- define "bookmesh.clientMetadata" -}}
{{- include "bookmesh.podMetadata" (list . "client" .Values.client (merge (dict "kubectl.kubernetes.io/default-container" "book-client") (include "bookmesh.scrapeAnnotations" . | fromJson))) -}}
{{- end -}}
