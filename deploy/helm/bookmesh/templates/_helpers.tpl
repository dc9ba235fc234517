{{/*
The prefix of all objects' names, at most 40 characters: the longest suffix, and what Kubernetes appends to it for pods
and their labels, has to fit into 63. A name that is cut gets a checksum, so that two releases never share one.
*/}}
{{- define "bookmesh.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- if gt (len $full) 40 -}}
{{- $full = printf "%s-%s" ($full | trunc 33 | trimSuffix "-") ($full | sha256sum | trunc 6) -}}
{{- end -}}
{{- $full -}}
{{- end -}}

{{/* Labels by which a component's pods are selected. Takes (list . "component"). */}}
{{- define "bookmesh.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Of the objects; pods carry the selector's only, so that a new chart version alone restarts none. */}}
{{- define "bookmesh.labels" -}}
{{- $root := index . 0 -}}
{{ include "bookmesh.selector" . }}
app.kubernetes.io/part-of: bookmesh
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A pod selector on one line, for network policies. Takes (list . "component"). */}}
{{- define "bookmesh.podSelector" -}}
{matchLabels: {{ include "bookmesh.selector" . | fromYaml | toJson }}}
{{- end -}}

{{/* Takes (list . image). */}}
{{- define "bookmesh.image" -}}
{{- $image := index . 1 -}}
{{- printf "%s:%s" $image.repository (default (index . 0).Chart.AppVersion $image.tag) | quote -}}
{{- end -}}

{{- define "bookmesh.serviceAccount" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "bookmesh.fullname" $root }}-{{ index . 1 }}
  labels: {{- include "bookmesh.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end -}}

{{/*
What all pods have in common: where they go, how their images are pulled, and what Pod Security `restricted` asks of a
pod. Takes (list . component-values service-account user-id).
*/}}
{{- define "bookmesh.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
{{- $user := index . 3 -}}
serviceAccountName: {{ index . 2 }}
automountServiceAccountToken: false
# Nothing here reads the variables that Kubernetes makes of every Service in the namespace.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Over the nodes as evenly as they allow. Takes (list . "component"). */}}
{{- define "bookmesh.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "bookmesh.selector" . | nindent 8 }}
{{- end -}}

{{/* What Pod Security `restricted` asks of a container, and a read-only root file system. */}}
{{- define "bookmesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "bookmesh.etcdEndpoints" -}}
{{- if .Values.etcd.enabled -}}
{{- $name := printf "%s-etcd" (include "bookmesh.fullname" .) -}}
{{- if eq (int .Values.etcd.replicas) 1 -}}
{{- printf "%s:2379" $name -}}
{{- else -}}
{{- $members := list -}}
{{- range until (int .Values.etcd.replicas) -}}
{{- $members = append $members (printf "%s-%d.%s-peers:2379" $name . $name) -}}
{{- end -}}
{{- join "," $members -}}
{{- end -}}
{{- if or .Values.etcd.tlsSecret .Values.etcd.loginSecret -}}
{{- fail "etcd.tlsSecret and etcd.loginSecret are for an etcd of your own, with etcd.enabled false; TLS to the release's own etcd comes with tls.enabled" -}}
{{- end -}}
{{- else -}}
{{- if not .Values.etcd.externalEndpoints -}}
{{- fail "etcd.externalEndpoints is needed where etcd.enabled is false, e.g. [etcd.infra:2379]" -}}
{{- end -}}
{{- join "," .Values.etcd.externalEndpoints -}}
{{- end -}}
{{- end -}}

{{- define "bookmesh.etcdPrefix" -}}
{{- default (printf "/services/%s/%s/book/" .Release.Namespace .Release.Name) .Values.etcd.prefix -}}
{{- end -}}

{{/* How a program reaches etcd. Takes (list . "BOOK_SERVER"|"BOOK_CLIENT"). */}}
{{- define "bookmesh.etcdEnv" -}}
{{- $root := index . 0 -}}
{{- $program := index . 1 -}}
{{- $etcd := $root.Values.etcd -}}
{{- $folder := ternary "/tls" "/etcd-tls" $etcd.enabled -}}
- {name: {{ $program }}_ETCD, value: {{ include "bookmesh.etcdEndpoints" $root | quote }}}
- {name: {{ $program }}_ETCD_PREFIX, value: {{ include "bookmesh.etcdPrefix" $root | quote }}}
{{- if ternary $root.Values.tls.enabled (not (empty $etcd.tlsSecret)) $etcd.enabled }}
- {name: {{ $program }}_ETCD_CA, value: {{ $folder }}/ca.crt}
{{- if or $etcd.enabled $etcd.clientCertificate }}
- {name: {{ $program }}_ETCD_CERT, value: {{ $folder }}/tls.crt}
- {name: {{ $program }}_ETCD_KEY, value: {{ $folder }}/tls.key}
{{- end }}
{{- end }}
{{- with $etcd.loginSecret }}
- {name: {{ $program }}_ETCD_USER, valueFrom: {secretKeyRef: {name: {{ . }}, key: username}}}
- {name: {{ $program }}_ETCD_PASSWORD_FILE, value: /etcd-login/password}
{{- end }}
{{- end -}}

{{- define "bookmesh.zipkinUrl" -}}
{{- if .Values.zipkin.enabled -}}
http://{{ include "bookmesh.fullname" . }}-zipkin:9411/api/v2/spans
{{- else -}}
{{- .Values.zipkin.externalUrl -}}
{{- end -}}
{{- end -}}
