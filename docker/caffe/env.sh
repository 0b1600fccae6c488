# shellcheck shell=bash
# Put this Caffe on the paths of the shell that sources it.
CAFFE_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CAFFE_HOME
export PATH="$CAFFE_HOME/bin:$PATH"
export PYTHONPATH="$CAFFE_HOME/python${PYTHONPATH:+:$PYTHONPATH}"
# pycaffe is built for Debian's own Python.
export CAFFE_PYTHON=/usr/bin/python3.11
