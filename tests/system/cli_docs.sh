#!/bin/bash
# --help, the manual pages and the completion agree on every verb, every option of every verb, every exit code
# and every public call. Needs no daemon. TAP.
# shellcheck source=tests/lib/shell.bash
. "$(dirname "$0")/../lib/shell.bash"
page=tools/man/talea.1.scd

check() { # check NAME EXPECTED ACTUAL
	same "$2" "$3" >"$folder/out"
	ok "$1"
}

# section HEADING: the part of the page below it.
section() { sed -n "/^# $1\$/,/^# /p" "$page" | sed '1d;$d'; }

verbs=$("$talea" help --json | jq -r '.verbs[].name')
options_of() { "$talea" help --json | jq -r ".verbs[] | select(.name == \"$1\") | .options[].name"; }
global=$'help\njson\nnamespace\nsocket'

check 'help_lists_every_verb_of_the_table' "$verbs" \
	"$("$talea" --help | sed -n '/^usage:/,/^$/s/^  \([a-z]*\) .*/\1/p')"
check 'the_manual_page_has_every_verb_in_order' "$verbs" \
	"$(section VERBS | sed -n 's/^\*\([a-z]*\)\*.*/\1/p')"
check 'the_manual_page_has_every_option_and_no_other' \
	"$("$talea" help --json | jq -r '.verbs[].options[].name' | sort -u)" \
	"$(section OPTIONS | sed -n 's/^\(\*-[a-z]\*, \)\?\*--\([a-z-]\+\)\*.*/\2/p' | sort -u)"
for verb in $verbs; do
	check "talea_help_${verb}_lists_its_options" "$(options_of "$verb" | sort)" \
		"$("$talea" help "$verb" | sed -n 's/^  [- ][a-z ][, ]* --\([a-z-]*\).*/\1/p' | sort)"
	check "the_manual_page_says_what_${verb}_takes" \
		"$(options_of "$verb" | grep -vxF "$global" | sort)" \
		"$(section VERBS | sed -n "/^\*$verb\*/,/^\*[a-z]/p" | sed '2,${/^\*[a-z]/d}' |
			sed -n '/Takes/,$p' | grep -o -- '--[a-z-]*' | sed 's/^--//' | sort -u)"
	check "the_manual_page_has_the_arguments_of_$verb" \
		"$("$talea" help --json | jq -r ".verbs[] | select(.name == \"$verb\") | .args")" \
		"$(section VERBS | sed -n "s/^\*$verb\*//p" | sed 's/^ //; s/_\([A-Za-z]*\)_/\1/g')"
	check "talea_${verb}_--help_is_talea_help_$verb" "$("$talea" help "$verb")" \
		"$("$talea" "$verb" --help)"
done

# offers WORD...: the completions of the last word; the real function finds them.
offers() {
	bash -c 'eval "$("$1" completion bash)"; COMP_WORDS=("${@:2}"); COMP_CWORD=$(($# - 2))
		_talea; printf "%s\n" "${COMPREPLY[@]}"' _ "$talea" "$@"
}
check 'completion_offers_every_verb' "$(sort <<<"$verbs")" "$(offers talea '' | grep -v '^-' | sort)"
for verb in $verbs; do
	check "completion_offers_the_options_of_$verb" "$(options_of "$verb" | sed 's/^/--/' | sort)" \
		"$(offers talea "$verb" -- | sort)"
done

check 'help_and_the_manual_page_have_the_same_exit_codes' \
	"$("$talea" help | sed -n 's/^exit: //p' | grep -o '[0-9]' | sort)" \
	"$(section 'EXIT STATUS' | sed -n 's/^|\?[:\[| ]*\([0-9]\)$/\1/p' | sort)"

calls=$(sed 's|//.*||' client/include/talea.h client/include/talea_add.h |
	grep -oE '\btalea_[a-z_]*[a-z]\(' | tr -d '(' | sort -u)
missing=
for call in $calls; do
	case $call in
	talea_target_*) continue ;;
	esac
	grep -q "\b$call\b" tools/man/libtalea.3.scd || missing+="$call "
done
check 'libtalea_3_names_every_public_call' '' "$missing"

# The manual page of probes has each probe of the table in the same order, with its event and whether it is on
# by default, each counter below its probe, and no other.
probes_page=tools/man/talea-probes.7.scd
table() { sed -n '/^# THE TABLE/,/^# /p' "$probes_page"; }
in_list=$(sed -n 's/^\tX([A-Z_]*, *\([a-z_]*\)).*/\1/p' daemon/spec/pack.h)
check 'talea_probes_7_has_every_probe_and_no_other' "$(sort <<<"$in_list")" \
	"$(table | sed -n 's/^\*\([a-z_]*\)\* (.*/\1/p' | sort)"
# of_table PROBE: its event in the table, and whether it is on by default.
of_table() {
	awk -v want="PROBE_${1^^}" '
	index($0, "[" want "] = {") { is_in = 1 }
	is_in { text = text $0 }
	is_in && /^\t},/ { exit }
	END {
		match(text, /\.attach = "[^"]*"/)
		print substr(text, RSTART + 11, RLENGTH - 12) (text ~ /is_default = true/ ? ", default" : "")
	}' daemon/spec/pack.c
}
of_page() { table | sed -n "s/^\*$1\* (\(.*\), [a-z]*)\$/\1/p"; }
for probe in $in_list; do
	[ -n "$(of_table "$probe")" ] || continue
	check "talea_probes_7_says_what_${probe}_is" "$(of_table "$probe")" "$(of_page "$probe")"
done
check 'talea_probes_7_has_every_counter_of_the_table_and_no_other' \
	"$(sed 's|^#define PAGE_FAULTS ||' daemon/spec/pack.c bpf/pack/interface_*.bpf.c 2>/dev/null |
		grep -oE '"kernel_[a-z_]+_total"' | tr -d '"' | sort -u)" \
	"$(table | grep -oE '\*kernel_[a-z_]+_total\*' | tr -d '*' | sort -u)"
# The page explains each kind of difference that `talea drift` expects.
check 'talea_probes_7_explains_every_expected_difference' \
	"$(sed -n '/^static const struct tolerance/,/^};/p' tools/reference.c |
		grep -oE '(REFERENCE_[A-Z]*, )"[a-z]+"' | grep -oE '[a-z]+' | sort)" \
	"$(sed -n '/^# SECOND SOURCE/,/^# DECLARED/s/^_\([a-z]*\)_$/\1/p' "$probes_page" | sort)"
# The page has each event of the grammar that the daemon reads.
for word in $(sed -n 's/^ \*   EVENT  //p; s/^ \*          //p' daemon/spec/probe_spec.h | grep -oE '[a-z_]+:' |
	sort -u); do
	check "talea_probes_7_has_the_event_$word" yes "$(grep -q "\*$word\*" "$probes_page" && echo yes)"
done

# The pages of the daemon have each flag and each key that talead knows.
config=$folder/talea.conf
printf '[counter *]\n[probe p]\nattach = raw_tp:sched_process_exec by comm\n[probe q]\nobject = /q.bpf.o\n' >"$config"
if [ -x "$talead" ]; then
	check 'talead_8_has_every_flag_of_talead' \
		"$("$talead" --help 2>&1 | grep -oE -- '--[a-z-]+' | sort -u)" \
		"$(sed -n '/^# OPTIONS/,/^# SIGNALS/p' tools/man/talead.8.scd | grep '^\*' |
			grep -oE -- '--[a-z-]+' | sort -u)"
	check 'talea_conf_5_has_every_key' \
		"$("$talead" -c "$config" --print-config 2>/dev/null | sed -n 's/^#\? \?\([a-z-]*\)\( =\|:\).*/\1/p' | sort -u)" \
		"$(sed -n 's/^\*\(.*\)\* = .*/\1/p' tools/man/talea.conf.5.scd | sed 's/\*, \*/\n/g' |
			sort -u)"
fi
finish
