{{/*
The prefix of all objects' names, at most 40 characters: the longest suffix, and what Kubernetes appends to it for pods
and their labels, has to fit into 63. It is what a Service may be called, where a release may have dots, or a digit in
front. A name that is changed for that gets a checksum, so that two releases never share one.
*/}}
{{- define "bookmesh.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := printf "%s-%s" .Release.Name $name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- $full = .Release.Name -}}
{{- end -}}
{{- $fit := $full | replace "." "-" -}}
{{- if not (regexMatch "^[a-z]" $fit) -}}
{{- $fit = printf "m-%s" $fit -}}
{{- end -}}
{{- if or (ne $fit $full) (gt (len $fit) 40) -}}
{{- $fit = printf "%s-%s" ($fit | trunc 33 | trimSuffix "-") ($full | sha256sum | trunc 6) -}}
{{- end -}}
{{- $fit -}}
{{- end -}}

{{/* Labels by which a component's pods are selected. Takes (list . "component"). */}}
{{- define "bookmesh.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Of the objects; commonLabels add to the chart's own and replace none. Takes (list . "component"). */}}
{{- define "bookmesh.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "bookmesh.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "bookmesh" -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- merge $own $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/*
Labels and annotations of pods. Of the chart's own labels pods carry the selector's only, so that a new chart version
alone restarts none. Takes (list . "component" component-values annotations-as-dict).
*/}}
{{- define "bookmesh.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
labels: {{- merge (include "bookmesh.selector" . | fromYaml) $values.podLabels $root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) $values.podAnnotations (index . 3) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
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

{{/* Of every Service; where nothing is said, the cluster decides. */}}
{{- define "bookmesh.ipFamilies" -}}
{{- with .Values.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end -}}

{{/*
What all pods have in common: where they go, how their images are pulled, and what Pod Security `restricted` asks of a
pod. What a user gives is passed on as JSON, in which large numbers stay whole. Takes (list . "component"
component-values service-account user-id).
*/}}
{{- define "bookmesh.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
{{- $user := index . 4 -}}
serviceAccountName: {{ index . 3 }}
automountServiceAccountToken: false
# Nothing here reads the variables that Kubernetes makes of every Service in the namespace.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- if $root.Values.fixedUserIds }}
  runAsUser: {{ $user }}
  runAsGroup: {{ $user }}
  fsGroup: {{ $user }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with $values.dnsConfig }}
dnsConfig: {{ toJson . }}
{{- end }}
{{- if $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range $values.topologySpreadConstraints }}
  - {{ merge (dict) . (dict "labelSelector" (include "bookmesh.podSelector" $ | fromYaml)) | toJson }}
  {{- end }}
{{- else if has (index . 1) (list "server" "etcd") }}
# Over the nodes as evenly as they allow.
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {{ include "bookmesh.podSelector" . }}
{{- end }}
{{- end -}}

{{/* What Pod Security `restricted` asks of a container, and a read-only root file system. */}}
{{- define "bookmesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/*
The chart's list, in which an entry of the user's replaces the one of the same name, and then the user's other entries:
Kubernetes refuses two volumes of one name, and Helm 4 two variables. Takes (list chart's-list-as-YAML user's-list key).
*/}}
{{- define "bookmesh.replaced" -}}
{{- $key := index . 2 -}}
{{- $theirs := dict -}}
{{- range index . 1 }}{{ $_ := set $theirs (index . $key) . }}{{ end -}}
{{- $placed := dict -}}
{{- range concat (index . 0 | fromYamlArray) (default list (index . 1)) -}}
{{- $name := index . $key -}}
{{- if not (hasKey $placed $name) }}
- {{ get $theirs $name | default . | toJson }}
{{- end -}}
{{- $_ := set $placed $name true -}}
{{- end -}}
{{- end -}}

{{/* A container's variables. Takes (list chart's-as-YAML component-values). */}}
{{- define "bookmesh.env" -}}
{{- include "bookmesh.replaced" (list (index . 0) (index . 1).extraEnv "name") | trim -}}
{{- end -}}

{{/* A pod's volumes, as a field, or nothing. Takes (list chart's-as-YAML component-values). */}}
{{- define "bookmesh.volumes" -}}
{{- with include "bookmesh.replaced" (list (index . 0) (index . 1).extraVolumes "name") | trim -}}
volumes: {{- . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* A container's mounts, as a field, or nothing. Takes (list chart's-as-YAML component-values). */}}
{{- define "bookmesh.volumeMounts" -}}
{{- with include "bookmesh.replaced" (list (index . 0) (index . 1).extraVolumeMounts "mountPath") | trim -}}
volumeMounts: {{- . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Bytes of a quantity such as 1Gi or 500M. */}}
{{- define "bookmesh.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000
      "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]*$" .)) | int64 -}}
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
{{- range .Values.etcd.externalEndpoints -}}
{{- if not (regexMatch `^([A-Za-z0-9][-A-Za-z0-9._]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$` .) -}}
{{- fail (printf "etcd.externalEndpoints has %q: expected host:port, with an IPv6 address in brackets; TLS comes with etcd.tlsSecret, not with https://" .) -}}
{{- end -}}
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
- {name: {{ $program }}_ETCD_USER, valueFrom: {secretKeyRef: {name: {{ quote . }}, key: username}}}
- {name: {{ $program }}_ETCD_PASSWORD_FILE, value: /etcd-login/password}
{{- end }}
{{- end -}}

{{/* What a program's spans tell of its pod: the variables before the last are what that is made of. */}}
{{- define "bookmesh.resourceEnv" -}}
{{- $attributes := "k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME),service.instance.id=$(POD_UID)" -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: {{ $attributes | quote }}}
{{- end -}}

{{/* How a program traces. Takes (list . "BOOK_SERVER"|"BOOK_CLIENT"). */}}
{{- define "bookmesh.tracingEnv" -}}
{{- $program := index . 1 -}}
{{ include "bookmesh.zipkinEnv" . }}
{{- with (index . 0).Values.tracing }}
- {name: {{ $program }}_PROPAGATORS, value: {{ join "," .propagators | quote }}}
- {name: {{ $program }}_SAMPLER, value: {{ .sampler | quote }}}
- {name: {{ $program }}_SAMPLER_ARG, value: {{ .samplerArg | toJson | quote }}}
- {name: {{ $program }}_TRACES, value: {{ join "," .exporters | quote }}}
{{- if regexMatch "^https?://[^/?#]*@" .otlp.url -}}
{{- fail "tracing.otlp.url has a user or a password, which everybody who may read pods would see: put them, as a header, under the key headers into a Secret, and its name into tracing.otlp.headersSecret" -}}
{{- end }}
- {name: {{ $program }}_OTLP, value: {{ quote .otlp.url }}}
- {name: OTEL_EXPORTER_OTLP_COMPRESSION, value: {{ .otlp.compression | quote }}}
{{- with .otlp.headersSecret }}
- {name: OTEL_EXPORTER_OTLP_HEADERS, valueFrom: {secretKeyRef: {name: {{ quote . }}, key: headers}}}
{{- end }}
- {name: OTEL_SEMCONV_STABILITY_OPT_IN, value: {{ .semconv | quote }}}
{{- end }}
{{ include "bookmesh.resourceEnv" (index . 0) }}
{{- end -}}

{{/* Where a program sends its spans. Takes (list . "BOOK_SERVER"|"BOOK_CLIENT"). */}}
{{- define "bookmesh.zipkinEnv" -}}
{{- $root := index . 0 -}}
{{- $zipkin := $root.Values.zipkin -}}
{{- if $zipkin.enabled -}}
- {name: {{ index . 1 }}_ZIPKIN, value: "http://{{ include "bookmesh.fullname" $root }}-zipkin:9411/api/v2/spans"}
{{- else if $zipkin.urlSecret -}}
- {name: {{ index . 1 }}_ZIPKIN, valueFrom: {secretKeyRef: {name: {{ quote $zipkin.urlSecret }}, key: url}}}
{{- else -}}
{{- if regexMatch "^https?://[^/?#]*@" $zipkin.externalUrl -}}
{{- fail "zipkin.externalUrl has a user or a password, which everybody who may read pods would see: put the URL under the key url into a Secret, and its name into zipkin.urlSecret" -}}
{{- end -}}
- {name: {{ index . 1 }}_ZIPKIN, value: {{ quote $zipkin.externalUrl }}}
{{- end -}}
{{- end -}}

{{/* Where Zipkin keeps its traces: by the variables of its server, as a list of them. */}}
{{- define "bookmesh.zipkinStorage" -}}
{{- $storage := .Values.zipkin.storage -}}
{{- $login := dict "elasticsearch" (list "ES_USERNAME" "ES_PASSWORD") "cassandra3" (list "CASSANDRA_USERNAME" "CASSANDRA_PASSWORD") "mysql" (list "MYSQL_USER" "MYSQL_PASS") -}}
- {name: STORAGE_TYPE, value: {{ ternary "mysql" $storage.type (eq $storage.type "mariadb") }}}
{{- if eq $storage.type "mem" }}
- {name: MEM_MAX_SPANS, value: {{ .Values.zipkin.maxSpans | toJson | quote }}}
{{- else if eq $storage.type "elasticsearch" }}
- {name: ES_HOSTS, value: {{ quote $storage.hosts }}}
- {name: ES_INDEX, value: {{ quote $storage.name }}}
{{- else if eq $storage.type "cassandra3" }}
- {name: CASSANDRA_CONTACT_POINTS, value: {{ quote $storage.hosts }}}
- {name: CASSANDRA_KEYSPACE, value: {{ quote $storage.name }}}
{{- with $storage.localDatacenter }}
- {name: CASSANDRA_LOCAL_DC, value: {{ quote . }}}
{{- end }}
{{- else if eq $storage.type "mariadb" }}
- {name: QUERY_PORT, value: "9412"}
- {name: MYSQL_HOST, value: {{ include "bookmesh.fullname" . }}-mariadb}
- {name: MYSQL_DB, value: zipkin}
{{ include "bookmesh.mariadbLogin" (list . "MYSQL_USER" "MYSQL_PASS") }}
{{- else }}
{{- $address := splitList ":" $storage.hosts }}
- {name: MYSQL_HOST, value: {{ first $address | quote }}}
- {name: MYSQL_TCP_PORT, value: {{ if gt (len $address) 1 }}{{ last $address | quote }}{{ else }}"3306"{{ end }}}
- {name: MYSQL_DB, value: {{ quote $storage.name }}}
{{- end }}
{{- if and $storage.secret (hasKey $login $storage.type) }}
{{- $names := get $login $storage.type }}
- {name: {{ first $names }}, valueFrom: {secretKeyRef: {name: {{ quote $storage.secret }}, key: username}}}
- {name: {{ last $names }}, valueFrom: {secretKeyRef: {name: {{ quote $storage.secret }}, key: password}}}
{{- end }}
{{- end -}}

{{/*
How many seconds so many spans reach back while all clients call as fast as they may: 5 spans a call, and a pause of
client.interval after each. Nothing where the interval is 0 or of another form than 50ms or 1.5s. Takes (list . spans).
*/}}
{{- define "bookmesh.spansLast" -}}
{{- $root := index . 0 -}}
{{- $client := $root.Values.client -}}
{{- $ms := 0.0 -}}
{{- if regexMatch "^[0-9.]+ms$" $client.interval -}}
{{- $ms = trimSuffix "ms" $client.interval | float64 -}}
{{- else if regexMatch "^[0-9.]+s$" $client.interval -}}
{{- $ms = mulf (trimSuffix "s" $client.interval | float64) 1000 -}}
{{- end -}}
{{- $share := 1.0 -}}
{{- if contains "ratio" $root.Values.tracing.sampler -}}
{{- $share = float64 $root.Values.tracing.samplerArg -}}
{{- end -}}
{{- if and (gt $ms 0.0) (gt $share 0.0) -}}
{{- $spans := divf (index . 1) 5 $share -}}
{{- divf (mulf $spans $ms) 1000 $client.concurrency (max 1 $client.replicas) | floor | int -}}
{{- end -}}
{{- end -}}
