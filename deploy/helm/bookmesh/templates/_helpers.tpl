{{- define "bookmesh.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels by which a component's pods are selected. Takes (list . "component"). */}}
{{- define "bookmesh.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "bookmesh.labels" -}}
{{- $root := index . 0 -}}
{{ include "bookmesh.selector" . }}
app.kubernetes.io/part-of: bookmesh
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Takes (list . image). */}}
{{- define "bookmesh.image" -}}
{{- $image := index . 1 -}}
{{- printf "%s:%s" $image.repository (default (index . 0).Chart.AppVersion $image.tag) -}}
{{- end -}}

{{/* What Pod Security `restricted` asks of a pod. */}}
{{- define "bookmesh.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

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
{{- else -}}
{{- join "," (required "etcd.externalEndpoints is needed where etcd.enabled is false" .Values.etcd.externalEndpoints) -}}
{{- end -}}
{{- end -}}

{{- define "bookmesh.etcdPrefix" -}}
{{- default (printf "/services/%s/%s/book/" .Release.Namespace .Release.Name) .Values.etcd.prefix -}}
{{- end -}}

{{- define "bookmesh.zipkinUrl" -}}
{{- if .Values.zipkin.enabled -}}
http://{{ include "bookmesh.fullname" . }}-zipkin:9411/api/v2/spans
{{- else -}}
{{- .Values.zipkin.externalUrl -}}
{{- end -}}
{{- end -}}

{{/* Where a pod goes, and with which secrets it is pulled. Takes (list . component-values). */}}
{{- define "bookmesh.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
