{{- define "chronik.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "chronik" $name) }}{{ $name = printf "%s-chronik" $name }}{{ end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels that pods are selected by; takes (dict "root" $ "service" "broker"). */}}
{{- define "chronik.selector" -}}
app.kubernetes.io/name: chronik
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "chronik.labels" -}}
{{ include "chronik.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "chronik.brokerUrl" -}}
http://{{ include "chronik.name" . }}-broker:8080
{{- end }}

{{- define "chronik.queryUrl" -}}
http://{{ include "chronik.name" . }}-query:8080
{{- end }}
