#!/bin/sh
# check_layers.sh - every #include "folder/..." must point down the layers of
# CONTRIBUTING.md; tests/ and bench/ may include everything.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
bad=0
check() {
    folder=$1; shift
    for f in $(find "$folder" -name '*.c' -o -name '*.h' -o -name '*.def'); do
        for inc in $(sed -n 's/^# *include "\([a-z]*\)\/.*/\1/p' "$f" | sort -u); do
            case " $folder $* " in
            *" $inc "*) ;;
            *) echo "$f includes $inc/"; bad=1 ;;
            esac
        done
        if grep -q '#include "\.\./' "$f"; then echo "$f includes ../"; bad=1; fi
    done
}
check core
check formats core
check kernels core
check text core formats
check model core formats kernels
check pipeline core formats kernels model
check convert core formats kernels text model pipeline
check quantize core formats kernels text model pipeline
check finetune core formats kernels text model
check deploy core formats text model
check cli core formats kernels text model pipeline convert quantize finetune deploy
[ $bad = 0 ] && echo "layers hold"
exit $bad
