#!/bin/bash
# Installs what is missing of the packages that a group (try, check, bench) needs: names them and their size
# first, asks nothing, starts no service, and is silent when all is there. Not root: says what to type.
#   tools/deps/install.sh [GROUP]
set -euo pipefail
cd "$(dirname "$0")/../.."
group=${1:-try}
list=tools/deps/packages
export LC_ALL=C DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1

case $group in
try) groups=try ;;
check) groups='try|check' ;;
bench) groups='try|check|bench' ;;
*)
	echo "install.sh: unknown group '$group' (try, check, bench)" >&2
	exit 2
	;;
esac
mapfile -t wanted < <(sed -nE "s/^($groups) +([^ #]+).*/\\2/p" $list)

missing() {
	dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null |
		sed -n 's/ installed$//p' | sort -u | comm -13 - <(printf '%s\n' "${wanted[@]}" | sort -u)
}

if ! command -v dpkg-query apt-get >/dev/null; then
	echo "talea: no Debian here; it needs what these Debian packages hold: ${wanted[*]}" >&2
	exit 0
fi
mapfile -t packages < <(missing)
[ ${#packages[@]} != 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	command="make deps GROUP=$group"
	if command -v sudo >/dev/null; then command="sudo $command"; else command="su -c '$command'"; fi
	echo "talea: packages are missing: ${packages[*]}" >&2
	echo "talea: to install them, type:  $command" >&2
	exit 1
fi

policy=/usr/sbin/policy-rc.d
former=/usr/sbin/policy-rc.d.before-talea
mark='# made by talea for the time of an installation'
log=

policy_restore() {
	if grep -qs "^$mark" $policy; then rm -f $policy; fi
	if [ -e $former ] || [ -L $former ]; then mv -f $former $policy; fi
}

# No package's service starts while this stands (also mends what a killed run left).
policy_forbid() {
	policy_restore
	if [ -e $policy ] || [ -L $policy ]; then mv $policy $former; fi
	printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >$policy
	chmod 755 $policy
}

finish() {
	policy_restore
	[ -z "$log" ] || rm -f "$log"
}

install() {
	apt-get install --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" "${packages[@]}" </dev/null
}

plan() { # what apt would do; it ends with an error because the answer to its question is no
	install --assume-no 2>&1 | grep -E '^(E:|Need to get|After this operation)|^  ' || true
}

fetch_lists() {
	echo "talea: fetching the package lists"
	apt-get update -qq -o DPkg::Lock::Timeout=300 </dev/null
}

# One installation at a time; then the lists, only when they do not know a package.
exec 9<"$0"
flock 9
mapfile -t packages < <(missing)
[ ${#packages[@]} != 0 ] || exit 0
[ "$(apt-cache show --no-all-versions "${packages[@]}" 2>/dev/null | grep -c '^Package: ')" -ge ${#packages[@]} ] ||
	fetch_lists
what=$(plan)

echo "talea: installing ${packages[*]}"
sed -nE -e 's/^Need to get (.*) of archives.*/talea: to fetch: \1/p' \
	-e 's/^After this operation, (.*) of additional.*/talea: on disk:  \1/p' <<<"$what"
new=$(apt-get install --no-install-recommends -s "${packages[@]}" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
	grep -vxF -f <(printf '%s\n' "${packages[@]}") | tr '\n' ' ' || true)
[ -z "$new" ] || fold -s -w 100 <<<"talea: and what they depend on: $new"

trap finish EXIT
trap 'exit 130' INT TERM HUP
log=$(mktemp)
policy_forbid
run_apt() { install -y -qq -o Dpkg::Use-Pty=0 >"$log" 2>&1; }
if ! run_apt; then
	# The lists may name versions that the mirror no longer has.
	fetch_lists
	run_apt || {
		cat "$log" >&2
		echo "talea: the packages could not be installed" >&2
		exit 1
	}
fi
