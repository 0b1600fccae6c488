# shellcheck shell=bash
# What the patches are written with.

# replace FILE OLD NEW: fails where OLD isn't there, so that a changed source can't pass unpatched.
replace() {
    # perl, not grep: OLD may be several lines.
    FILE=$1 OLD=$2 NEW=$3 perl -0pi -e 's/\Q$ENV{OLD}\E/$ENV{NEW}/g or die "$ENV{FILE} has no \"$ENV{OLD}\"\n"' "$1"
}
