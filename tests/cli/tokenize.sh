#!/bin/sh
# tokenize.sh - the contract of `bise tokenize`: ids on one line, --pieces,
# --json keys, --decode, --file -, --chat with its mask, errors and exit codes.
# SPDX-License-Identifier: Apache-2.0
set -u
bise=${top_builddir:-.}/bise
model=${top_srcdir:-.}/examples/tiny-mistral3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# is NAME WANT COMMAND...: stdout must be WANT
is() {
    name=$1 want=$2
    shift 2
    got=$("$@" 2>"$dir/err")
    if [ "$got" != "$want" ]; then
        echo "FAIL $name: got '$got', must be '$want'"
        cat "$dir/err"
        failed=1
    fi
}

# fails NAME STATUS TEXT COMMAND...: exit status, and TEXT on stderr
fails() {
    name=$1 want=$2 text=$3
    shift 3
    "$@" >"$dir/out" 2>"$dir/err"
    status=$?
    if [ $status -ne "$want" ] || ! grep -q -e "$text" "$dir/err"; then
        echo "FAIL $name: status $status, stderr:"
        cat "$dir/err"
        failed=1
    fi
}

is ids "136 137" "$bise" tokenize "$model" hi
is file "136 137" "$bise" tokenize "$model/tekken.json" hi
is json_file "136 137" "$bise" tokenize "$model/tokenizer.json" hi
is bos "1 136 137" "$bise" tokenize "$model" hi --bos
is plain "123 105 110 115 116 125" "$bise" tokenize "$model" "[INST]"
is special "3" "$bise" tokenize "$model" "[INST]" --parse-special
is decode "[INST]hi" "$bise" tokenize "$model" --decode "3, 136 137"
is pieces "$(printf '136\t"h"\n137\t"i"')" \
    "$bise" tokenize "$model" hi --pieces
printf 'hi' >"$dir/text"
is file_option "136 137" "$bise" tokenize "$model" --file "$dir/text"
is stdin "136 137" "$bise" tokenize "$model" --file - <"$dir/text"
printf 'a\377b' >"$dir/broken"
is broken "$("$bise" tokenize "$model" "a$(printf '\357\277\275')b")" \
    "$bise" tokenize "$model" --file "$dir/broken"

is fim "1 16 130 14 129" "$bise" tokenize "$model" a --suffix b
cat >"$dir/chat.json" <<'EOF'
{"messages": [{"role": "user", "content": "a"},
              {"role": "assistant", "content": "b"}]}
EOF
is chat "1 3 129 4 130 2" "$bise" tokenize "$model" --chat "$dir/chat.json"
for key in '"mask":\[0,0,0,0,1,1\]' '"ids":\[1,3,129,4,130,2\]' \
    '"text":"<s>\[INST\]a\[/INST\]b</s>"' '"pieces":\["<s>"'; do
    "$bise" --json tokenize "$model" --chat "$dir/chat.json" >"$dir/json"
    grep -q "$key" "$dir/json" ||
        { echo "FAIL json: no $key"; cat "$dir/json"; failed=1; }
done
is format "1 3 129 4 130 2" "$bise" tokenize "$model" \
    --chat "$dir/chat.json" --chat-format v3-tekken

fails nothing 2 "is needed" "$bise" tokenize "$model"
fails no_model 1 "No such file" "$bise" tokenize "$dir/none" hi
fails not_ids 2 "is not an id" "$bise" tokenize "$model" --decode "1 x"
fails big_id 2 "0 to 4095" "$bise" tokenize "$model" --decode 4096
fails bad_format 2 "unknown chat format" "$bise" tokenize "$model" \
    --chat "$dir/chat.json" --chat-format v4
echo '[{"role": "tool", "content": "a"}]' >"$dir/bad.json"
fails bad_chat 1 "message 1 (tool)" "$bise" tokenize "$model" \
    --chat "$dir/bad.json"
head -c 1000 "$model/tekken.json" >"$dir/cut.json"
fails truncated 1 "cut.json" "$bise" tokenize "$dir/cut.json" hi
exit $failed
