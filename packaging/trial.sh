# What test-deb and test-systemd share; read by both with `.`. `trial` is the name of the one that runs.

fail() {
	echo "$trial: $*" >&2
	exit 1
}
say() { echo "$trial: $*"; }

# within SECONDS COMMAND...: waits until it succeeds.
within() {
	tries=$(($1 * 10)) seconds=$1
	shift
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || fail "not within $seconds s: $*"
		sleep 0.1
	done
}

# make_root DIRECTORY PACKAGES: a Debian root with little in it; PACKAGES are separated by commas.
make_root() {
	debootstrap --variant=minbase --include="$2" bookworm "$1" >"$1.said" 2>&1 || {
		tail "$1.said" >&2
		fail "no root"
	}
}
