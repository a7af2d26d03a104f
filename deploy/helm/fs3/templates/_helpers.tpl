{{/* What names of objects begin with. */}}
{{- define "fs3.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that select the pods of a role: (dict "root" $ "role" "storage"). */}}
{{- define "fs3.selector" -}}
app.kubernetes.io/name: fs3
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{/* All labels of an object of a role. */}}
{{- define "fs3.labels" -}}
{{ include "fs3.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Addresses of all managers. */}}
{{- define "fs3.managers" -}}
{{- $name := printf "%s-mgmtd" (include "fs3.fullname" .) -}}
{{- $found := list -}}
{{- range $number := until (int .Values.mgmtd.replicas) -}}
{{- $found = append $found (printf "%s-%d.%s:8000" $name $number $name) -}}
{{- end -}}
{{- join "," $found -}}
{{- end -}}

{{/* What probes ask a pod. Kubernetes speaks gRPC without TLS only. */}}
{{- define "fs3.asked" -}}
{{- if .Values.cluster.insecure -}}
grpc: {port: 8001}
{{- else -}}
tcpSocket: {port: framed}
{{- end -}}
{{- end -}}

{{/* What no schema can say of values. */}}
{{- define "fs3.check" -}}
{{- if and (not .Values.cluster.kv) (or (gt (int .Values.mgmtd.replicas) 1) (gt (int .Values.meta.replicas) 1)) -}}
{{- fail "mgmtd.replicas and meta.replicas are 1 unless cluster.kv names an engine that the pods share" -}}
{{- end -}}
{{- if lt (int .Values.storage.replicas) (int .Values.cluster.replicas) -}}
{{- fail (printf "storage.replicas is %d: cluster.replicas %d needs as many storage pods" (int .Values.storage.replicas) (int .Values.cluster.replicas)) -}}
{{- end -}}
{{- end -}}
