#!/usr/bin/env bash
# Rolls an image out: first what the migration needs and the migration itself, then the roles.
# Usage: k8s/roll-out.sh ENVIRONMENT REGISTRY/notification-ledger@sha256:DIGEST
set -euo pipefail
environment=$1 image=$2
namespace=notification-ledger
[[ $image =~ ^.+@sha256:[0-9a-f]{64}$ ]] || { echo 'the image must be named by its digest' >&2; exit 2; }

overlays=$(cd "$(dirname "$0")/overlays" && pwd)
folder=$(mktemp --directory "$overlays/roll-out-XXXXXX")
trap 'rm -r "$folder"' EXIT
cat > "$folder/kustomization.yaml" <<YAML
resources: [../$environment]
images: [{name: notification-ledger, newName: "${image%@*}", digest: "${image#*@}"}]
YAML
kubectl kustomize "$folder" > "$folder/rendered.yaml"

# A Job cannot be changed.
kubectl delete job migrate --namespace "$namespace" --ignore-not-found
kubectl apply --filename "$folder/rendered.yaml" --selector 'app.kubernetes.io/component in (installation, migrate)'
# A Job that has failed never completes: whichever comes first.
for condition in complete failed; do
  kubectl wait job/migrate --namespace "$namespace" --for="condition=$condition" --timeout=15m > /dev/null &
done
wait -n || true
kill $(jobs -p) 2> /dev/null || true
if [[ $(kubectl get job/migrate --namespace "$namespace" --output 'jsonpath={.status.succeeded}') != 1 ]]; then
  echo 'the migration has not succeeded, and no role was changed; it says:' >&2
  kubectl logs job/migrate --namespace "$namespace" --tail 20 >&2
  exit 1
fi
kubectl apply --filename "$folder/rendered.yaml"
kubectl rollout status deployment --namespace "$namespace" --timeout=15m
