{{- define "lipsync.labels" -}}
app.kubernetes.io/name: lipsync-server
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "lipsync.selector" -}}
app.kubernetes.io/name: lipsync-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Queries are of this release alone. */}}
{{- define "lipsync.of" -}}
{namespace="{{ .Release.Namespace }}",service="{{ .Release.Name }}"}
{{- end }}
