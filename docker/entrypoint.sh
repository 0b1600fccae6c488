#!/bin/sh
# `docker run --user $(id -u):$(id -g)` brings a user who has neither a name nor a home in the image;
# programs want to write to the one and ask for the other.
if [ ! -w "${HOME:-/}" ]; then
    HOME=$(mktemp -d)
    export HOME
fi
: "${USER:=recaffe}"
export USER
exec "$@"
