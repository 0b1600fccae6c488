#!/bin/sh
# status.sh JOB: running, success or failed, as Snakemake asks for it. A job that is gone has failed.
set -eu
job=${1#*/}
namespace=${1%/*}
said=$(kubectl get job "$job" --namespace "$namespace" --ignore-not-found \
    --output 'jsonpath={.metadata.name} {.status.conditions[?(@.status=="True")].type}')
case "$said" in
*Complete*) echo success ;;
*Failed* | "") echo failed ;;
*) echo running ;;
esac
