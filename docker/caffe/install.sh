#!/usr/bin/env bash
# The built programs, libraries and pycaffe, from Caffe's source folder into a folder of their own
# that can be moved: paths inside are relative.
#   install.sh SOURCE_FOLDER INSTALL_FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
src=$1
to=$2
# shellcheck disable=SC2016 # $ORIGIN is the loader's word
tools='$ORIGIN/../lib' module='$ORIGIN/../../lib' library='$ORIGIN'

mkdir -p "$to/bin" "$to/lib" "$to/python"
so=$(basename "$src"/build/lib/libcaffe.so.*)
install -s -m 755 "$src/build/lib/$so" "$to/lib/$so"
patchelf --set-rpath "$library" "$to/lib/$so"
ln -s "$so" "$to/lib/libcaffe.so"
for tool in "$src"/build/tools/*.bin; do
    install -s -m 755 "$tool" "$to/bin/$(basename "$tool" .bin)"
    patchelf --set-rpath "$tools" "$to/bin/$(basename "$tool" .bin)"
done
cp -r "$src/python/caffe" "$to/python/"
rm -f "$to/python/caffe/_caffe.cpp"
strip --strip-unneeded "$to/python/caffe/_caffe.so"
patchelf --set-rpath "$module" "$to/python/caffe/_caffe.so"
cp "$src/LICENSE" "$here/env.sh" "$to/"
