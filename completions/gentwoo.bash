# SPDX-License-Identifier: GPL-2.0-or-later
# Written by `make docs`; edit what it says there.
_gentwoo()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	local path=gentwoo words='' files='' skip='' word i
	local -A known=()
	for word in 'gentwoo' 'gentwoo register' 'gentwoo status' 'gentwoo show' 'gentwoo push' 'gentwoo daemon' 'gentwoo forget' 'gentwoo verify' 'gentwoo report' 'gentwoo watch' 'gentwoo watch add' 'gentwoo watch list' 'gentwoo watch remove' 'gentwoo history' 'gentwoo predict' 'gentwoo binhost' 'gentwoo binhost setup' 'gentwoo binhost propose' 'gentwoo binhost status' 'gentwoo binhost remove' 'gentwoo search' 'gentwoo install' 'gentwoo upgrade' 'gentwoo downgrade' 'gentwoo remove' 'gentwoo build' 'gentwoo builds' 'gentwoo builds show' 'gentwoo builds log' 'gentwoo builds cancel' 'gentwoo builds retry' 'gentwoo why' 'gentwoo set' 'gentwoo set create' 'gentwoo set add' 'gentwoo set remove' 'gentwoo set list' 'gentwoo set build' 'gentwoo notifications' 'gentwoo parameters'; do known[$word]=1; done
	COMPREPLY=()
	case $prev in
		--config) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--state-dir) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warning error' -- "$cur"); return ;;
		--collector) :; return ;;
		--history) :; return ;;
		--log) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--linger) :; return ;;
		--public-key) :; return ;;
		--topic) mapfile -t COMPREPLY < <(compgen -W 'failures adoption removal' -- "$cur"); return ;;
		--webhook) :; return ;;
		--since) :; return ;;
		--until) :; return ;;
		--event) mapfile -t COMPREPLY < <(compgen -W 'install uninstall failure' -- "$cur"); return ;;
		--jobs) :; return ;;
		--target) :; return ;;
		--fingerprint) :; return ;;
		--token-file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--limit) :; return ;;
		--attempt) :; return ;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $skip ]]; then skip=''; continue; fi
		case $word in --config|--state-dir|--log-level|--collector|--history|--log|--linger|--public-key|--topic|--webhook|--since|--until|--event|--jobs|--target|--fingerprint|--token-file|--limit|--attempt) skip=1 ;; -*) ;;
		*) [[ ${known["$path $word"]-} ]] && path+=" $word" ;; esac
	done
	case $path in
		'gentwoo') words='register status show push daemon forget verify report watch history predict binhost search install upgrade downgrade remove build builds why set notifications parameters --version --config --state-dir --log-level --help' ;;
		'gentwoo register') words='--collector --history --renew --forget-old --non-interactive --insecure --config --state-dir --log-level --help' ;;
		'gentwoo status') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo show') words='--all --json --config --state-dir --log-level --help' ;;
		'gentwoo push') words='--log --linger --syslog --config --state-dir --log-level --help' ;;
		'gentwoo daemon') words='--log --detach --check --config --state-dir --log-level --help' ;;
		'gentwoo forget') words='--yes --config --state-dir --log-level --help' ;;
		'gentwoo verify') words='--public-key --config --state-dir --log-level --help' files=f ;;
		'gentwoo report') words='--config --state-dir --log-level --help' ;;
		'gentwoo watch') words='add list remove --config --state-dir --log-level --help' ;;
		'gentwoo watch add') words='--topic --webhook --json --config --state-dir --log-level --help' ;;
		'gentwoo watch list') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo watch remove') words='--config --state-dir --log-level --help' ;;
		'gentwoo history') words='--log --since --until --event --json --config --state-dir --log-level --help' ;;
		'gentwoo predict') words='-f --follow --log --jobs --accuracy --offline --collector --json --config --state-dir --log-level --help' ;;
		'gentwoo binhost') words='setup propose status remove --config --state-dir --log-level --help' ;;
		'gentwoo binhost setup') words='--json --collector --target --fingerprint --yes --token-file --insecure --non-interactive --config --state-dir --log-level --help' ;;
		'gentwoo binhost propose') words='--json --collector --yes --non-interactive --config --state-dir --log-level --help' ;;
		'gentwoo binhost status') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo binhost remove') words='--json --keep-keys --config --state-dir --log-level --help' ;;
		'gentwoo search') words='--limit --collector --json --config --state-dir --log-level --help' ;;
		'gentwoo install') words='--oneshot --yes --non-interactive --retry --no-wait --config --state-dir --log-level --help' ;;
		'gentwoo upgrade') words='--all --yes --non-interactive --retry --no-wait --config --state-dir --log-level --help' ;;
		'gentwoo downgrade') words='--yes --non-interactive --retry --no-wait --config --state-dir --log-level --help' ;;
		'gentwoo remove') words='--yes --non-interactive --config --state-dir --log-level --help' ;;
		'gentwoo build') words='--plan --wait --no-wait --target --json --yes --non-interactive --retry --config --state-dir --log-level --help' ;;
		'gentwoo builds') words='show log cancel retry --json --config --state-dir --log-level --help' ;;
		'gentwoo builds show') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo builds log') words='-f --follow --attempt --config --state-dir --log-level --help' ;;
		'gentwoo builds cancel') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo builds retry') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo why') words='--deep --target --yes --json --config --state-dir --log-level --help' ;;
		'gentwoo set') words='create add remove list build --config --state-dir --log-level --help' ;;
		'gentwoo set create') words='--config --state-dir --log-level --help' ;;
		'gentwoo set add') words='--config --state-dir --log-level --help' ;;
		'gentwoo set remove') words='--config --state-dir --log-level --help' ;;
		'gentwoo set list') words='--json --config --state-dir --log-level --help' ;;
		'gentwoo set build') words='--plan --wait --no-wait --target --json --yes --non-interactive --retry --config --state-dir --log-level --help' ;;
		'gentwoo notifications') words='--json --clear --watch --config --state-dir --log-level --help' ;;
		'gentwoo parameters') words='--json --config --state-dir --log-level --help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if [[ $files && $cur != -* ]]; then
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "-$files" -- "$cur")
		compopt -o filenames 2>/dev/null
	fi
}
complete -F _gentwoo gentwoo
