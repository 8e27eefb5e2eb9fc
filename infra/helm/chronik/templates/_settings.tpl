{{/* The environment that all three services share: HTTP, bucket, queue. */}}
{{- define "chronik.settings" -}}
- {name: CHRONIK_DATA_DIR, value: /var/lib/chronik}
- {name: CHRONIK_HTTP_BIND, value: 0.0.0.0}
- name: CHRONIK_HTTP_TOKEN
  valueFrom: {secretKeyRef: {name: {{ required "http.tokenSecret is empty: name a secret with the key `token`" .Values.http.tokenSecret }}, key: token}}
{{ include "chronik.objectStore" .Values.objectStore }}
{{- end }}

{{- define "chronik.objectStore" -}}
- {name: OBJECT_STORE_BACKEND, value: {{ .backend }}}
{{- if eq .backend "s3" }}
- {name: S3_BUCKET, value: {{ required "objectStore.s3.bucket is empty" .s3.bucket | quote }}}
- {name: S3_REGION, value: {{ required "objectStore.s3.region is empty" .s3.region | quote }}}
- {name: AWS_REGION, value: {{ .s3.region | quote }}}
{{- with .s3.prefix }}
- {name: S3_PREFIX, value: {{ . | quote }}}
{{- end }}
{{- with .s3.endpoint }}
- {name: S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if .s3.pathStyle }}
- {name: S3_PATH_STYLE, value: "true"}
{{- end }}
{{- if .s3.disableSsl }}
- {name: S3_DISABLE_SSL, value: "true"}
{{- end }}
{{- with .s3.credentialsSecret }}
- name: S3_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: accessKey}}
- name: S3_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: secretKey}}
{{- end }}
{{- else if eq .backend "gcs" }}
- {name: GCS_BUCKET, value: {{ required "objectStore.gcs.bucket is empty" .gcs.bucket | quote }}}
{{- with .gcs.projectId }}
- {name: GCS_PROJECT_ID, value: {{ . | quote }}}
{{- end }}
{{- with .gcs.prefix }}
- {name: GCS_PREFIX, value: {{ . | quote }}}
{{- end }}
{{- else }}
- {name: AZURE_ACCOUNT_NAME, value: {{ required "objectStore.azure.accountName is empty" .azure.accountName | quote }}}
- {name: AZURE_CONTAINER, value: {{ required "objectStore.azure.container is empty" .azure.container | quote }}}
{{- with .azure.prefix }}
- {name: AZURE_PREFIX, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "chronik.queue" -}}
- {name: CHRONIK_QUEUE, value: sqs}
- {name: SQS_QUEUE_URL, value: {{ .url | quote }}}
{{- with .endpoint }}
- {name: SQS_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .credentialsSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: accessKey}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: secretKey}}
{{- end }}
{{- end }}

{{/* Settings given by name, in the order of their names. */}}
{{- define "chronik.moreSettings" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}
