# SPDX-License-Identifier: GPL-2.0-or-later
# Written by `make docs`; edit what it says there.
_bdcs()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	local path=bdcs words='' files='' skip='' word i
	local -A known=()
	for word in 'bdcs' 'bdcs serve' 'bdcs target' 'bdcs target add' 'bdcs target list' 'bdcs target show' 'bdcs target set' 'bdcs target remove' 'bdcs target log' 'bdcs target diff' 'bdcs target rollback' 'bdcs target keep' 'bdcs target withdraw' 'bdcs publish' 'bdcs import' 'bdcs prune' 'bdcs repository' 'bdcs repository add' 'bdcs repository list' 'bdcs repository status' 'bdcs repository sync' 'bdcs repository remove' 'bdcs prebuild' 'bdcs export' 'bdcs check' 'bdcs backup' 'bdcs restore' 'bdcs anomalies' 'bdcs admin' 'bdcs admin machines' 'bdcs admin machines list' 'bdcs admin machines show' 'bdcs admin machines approve' 'bdcs admin machines refuse' 'bdcs admin machines quarantine' 'bdcs admin machines release' 'bdcs admin machines forget' 'bdcs admin builders' 'bdcs admin builders approve' 'bdcs admin builders revoke' 'bdcs admin builders drain' 'bdcs admin builders undrain' 'bdcs admin builders list' 'bdcs admin proposals' 'bdcs admin proposals list' 'bdcs admin proposals accept' 'bdcs admin proposals refuse' 'bdcs admin tokens' 'bdcs admin tokens create' 'bdcs admin tokens list' 'bdcs admin tokens revoke' 'bdcs admin keys' 'bdcs admin keys create' 'bdcs admin keys import' 'bdcs admin keys list' 'bdcs admin keys export' 'bdcs admin keys extend' 'bdcs admin keys retire' 'bdcs admin keys trust' 'bdcs admin keys untrust' 'bdcs admin watch' 'bdcs admin watch add' 'bdcs admin watch list' 'bdcs admin watch remove' 'bdcs admin leaving' 'bdcs admin leaving add' 'bdcs admin leaving list' 'bdcs admin leaving remove' 'bdcs signer' 'bdcs builder' 'bdcs autoscale' 'bdcs schema' 'bdcs copy-store'; do known[$word]=1; done
	COMPREPLY=()
	case $prev in
		--config) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--data) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--store) :; return ;;
		--log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warning error' -- "$cur"); return ;;
		--listen) :; return ;;
		--public-url) :; return ;;
		--builder) :; return ;;
		--chost) :; return ;;
		--profile) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--cflags) :; return ;;
		--cpu) :; return ;;
		--toolchain) :; return ;;
		--description) :; return ;;
		--signatures) mapfile -t COMPREPLY < <(compgen -W 'required optional' -- "$cur"); return ;;
		--arch) :; return ;;
		--header) :; return ;;
		--from-portage) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--limit) :; return ;;
		--note) :; return ;;
		--target) :; return ;;
		--upload) :; return ;;
		--keep) :; return ;;
		--age) :; return ;;
		--size) :; return ;;
		--sync-type) mapfile -t COMPREPLY < <(compgen -W 'local git rsync' -- "$cur"); return ;;
		--sync-uri) :; return ;;
		--location) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--budget) :; return ;;
		--since) :; return ;;
		--only) mapfile -t COMPREPLY < <(compgen -W 'records binhost builds' -- "$cur"); return ;;
		--link) :; return ;;
		--quarantine) :; return ;;
		--release) :; return ;;
		--reason) :; return ;;
		--state) mapfile -t COMPREPLY < <(compgen -W 'approved awaiting-approval quarantined refused' -- "$cur"); return ;;
		--name) :; return ;;
		--home) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--passphrase-file) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--email) :; return ;;
		--expires) :; return ;;
		--topic) mapfile -t COMPREPLY < <(compgen -W 'failures adoption removal' -- "$cur"); return ;;
		--webhook) :; return ;;
		--on) :; return ;;
		--socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--allow) :; return ;;
		--collector) :; return ;;
		--address) :; return ;;
		--root) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--eprefix) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--readable) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--hide) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2>/dev/null; return ;;
		--jobs) :; return ;;
		--hours) :; return ;;
		--disk) :; return ;;
		--memory) :; return ;;
		--log) :; return ;;
		--patience) :; return ;;
		--interval) :; return ;;
	esac
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $skip ]]; then skip=''; continue; fi
		case $word in --config|--data|--store|--log-level|--listen|--public-url|--builder|--chost|--profile|--cflags|--cpu|--toolchain|--description|--signatures|--arch|--header|--from-portage|--limit|--note|--target|--upload|--keep|--age|--size|--sync-type|--sync-uri|--location|--budget|--since|--only|--link|--quarantine|--release|--reason|--state|--name|--home|--passphrase-file|--email|--expires|--topic|--webhook|--on|--socket|--allow|--collector|--address|--root|--eprefix|--readable|--hide|--jobs|--hours|--disk|--memory|--log|--patience|--interval) skip=1 ;; -*) ;;
		*) [[ ${known["$path $word"]-} ]] && path+=" $word" ;; esac
	done
	case $path in
		'bdcs') words='serve target publish import prune repository prebuild export check backup restore anomalies admin signer builder autoscale schema copy-store --version --config --data --store --log-level --help' ;;
		'bdcs serve') words='--listen --public-url --builder --check --config --data --store --log-level --help' ;;
		'bdcs target') words='add list show set remove log diff rollback keep withdraw --config --data --store --log-level --help' ;;
		'bdcs target add') words='--chost --profile --cflags --cpu --toolchain --description --signatures --private --no-private --bindist --no-bindist --arch --header --from-portage --config --data --store --log-level --help' ;;
		'bdcs target list') words='--json --config --data --store --log-level --help' ;;
		'bdcs target show') words='--json --config --data --store --log-level --help' ;;
		'bdcs target set') words='--chost --profile --cflags --cpu --toolchain --description --signatures --private --no-private --bindist --no-bindist --arch --header --config --data --store --log-level --help' ;;
		'bdcs target remove') words='--force --config --data --store --log-level --help' ;;
		'bdcs target log') words='--limit --all --json --config --data --store --log-level --help' ;;
		'bdcs target diff') words='--json --config --data --store --log-level --help' ;;
		'bdcs target rollback') words='--note --config --data --store --log-level --help' ;;
		'bdcs target keep') words='--off --config --data --store --log-level --help' ;;
		'bdcs target withdraw') words='--note --config --data --store --log-level --help' ;;
		'bdcs publish') words='--target --upload --again --list-uploads --json --config --data --store --log-level --help' files=f ;;
		'bdcs import') words='--target --dry-run --json --config --data --store --log-level --help' files=d ;;
		'bdcs prune') words='--target --builds --keep --installed --no-installed --age --size --dry-run --json --config --data --store --log-level --help' ;;
		'bdcs repository') words='add list status sync remove --config --data --store --log-level --help' ;;
		'bdcs repository add') words='--sync-type --sync-uri --location --own-mirror --config --data --store --log-level --help' ;;
		'bdcs repository list') words='--json --config --data --store --log-level --help' ;;
		'bdcs repository status') words='--json --config --data --store --log-level --help' ;;
		'bdcs repository sync') words='--json --config --data --store --log-level --help' ;;
		'bdcs repository remove') words='--config --data --store --log-level --help' ;;
		'bdcs prebuild') words='--target --budget --coverage --queue --public --json --config --data --store --log-level --help' ;;
		'bdcs export') words='--since --config --data --store --log-level --help' ;;
		'bdcs check') words='--only --repair --config --data --store --log-level --help' ;;
		'bdcs backup') words='--link --no-packages --no-check --json --config --data --store --log-level --help' ;;
		'bdcs restore') words='--no-check --config --data --store --log-level --help' ;;
		'bdcs anomalies') words='--quarantine --release --quarantined --reason --json --config --data --store --log-level --help' ;;
		'bdcs admin') words='machines builders proposals tokens keys watch leaving --config --data --store --log-level --help' ;;
		'bdcs admin machines') words='list show approve refuse quarantine release forget --config --data --store --log-level --help' ;;
		'bdcs admin machines list') words='--state --config --data --store --log-level --help' ;;
		'bdcs admin machines show') words='--config --data --store --log-level --help' ;;
		'bdcs admin machines approve') words='--config --data --store --log-level --help' ;;
		'bdcs admin machines refuse') words='--config --data --store --log-level --help' ;;
		'bdcs admin machines quarantine') words='--config --data --store --log-level --help' ;;
		'bdcs admin machines release') words='--config --data --store --log-level --help' ;;
		'bdcs admin machines forget') words='--config --data --store --log-level --help' ;;
		'bdcs admin builders') words='approve revoke drain undrain list --config --data --store --log-level --help' ;;
		'bdcs admin builders approve') words='--target --config --data --store --log-level --help' ;;
		'bdcs admin builders revoke') words='--target --config --data --store --log-level --help' ;;
		'bdcs admin builders drain') words='--config --data --store --log-level --help' ;;
		'bdcs admin builders undrain') words='--config --data --store --log-level --help' ;;
		'bdcs admin builders list') words='--target --json --config --data --store --log-level --help' ;;
		'bdcs admin proposals') words='list accept refuse --config --data --store --log-level --help' ;;
		'bdcs admin proposals list') words='--all --json --config --data --store --log-level --help' ;;
		'bdcs admin proposals accept') words='--name --config --data --store --log-level --help' ;;
		'bdcs admin proposals refuse') words='--reason --config --data --store --log-level --help' ;;
		'bdcs admin tokens') words='create list revoke --config --data --store --log-level --help' ;;
		'bdcs admin tokens create') words='--target --config --data --store --log-level --help' ;;
		'bdcs admin tokens list') words='--target --json --config --data --store --log-level --help' ;;
		'bdcs admin tokens revoke') words='--target --config --data --store --log-level --help' ;;
		'bdcs admin keys') words='create import list export extend retire trust untrust --config --data --store --log-level --help' ;;
		'bdcs admin keys create') words='--json --home --passphrase-file --name --email --expires --config --data --store --log-level --help' ;;
		'bdcs admin keys import') words='--json --home --passphrase-file --config --data --store --log-level --help' files=f ;;
		'bdcs admin keys list') words='--json --home --passphrase-file --target --config --data --store --log-level --help' ;;
		'bdcs admin keys export') words='--home --passphrase-file --config --data --store --log-level --help' ;;
		'bdcs admin keys extend') words='--json --home --passphrase-file --config --data --store --log-level --help' ;;
		'bdcs admin keys retire') words='--json --home --passphrase-file --config --data --store --log-level --help' ;;
		'bdcs admin keys trust') words='--json --target --config --data --store --log-level --help' files=f ;;
		'bdcs admin keys untrust') words='--json --target --config --data --store --log-level --help' ;;
		'bdcs admin watch') words='add list remove --config --data --store --log-level --help' ;;
		'bdcs admin watch add') words='--topic --webhook --config --data --store --log-level --help' ;;
		'bdcs admin watch list') words='--json --config --data --store --log-level --help' ;;
		'bdcs admin watch remove') words='--config --data --store --log-level --help' ;;
		'bdcs admin leaving') words='add list remove --config --data --store --log-level --help' ;;
		'bdcs admin leaving add') words='--on --reason --config --data --store --log-level --help' ;;
		'bdcs admin leaving list') words='--json --config --data --store --log-level --help' ;;
		'bdcs admin leaving remove') words='--config --data --store --log-level --help' ;;
		'bdcs signer') words='--socket --home --passphrase-file --allow --check --config --data --store --log-level --help' ;;
		'bdcs builder') words='--collector --address --insecure --target --name --root --eprefix --readable --hide --jobs --attended --check --hours --disk --memory --log --patience --config --data --store --log-level --help' ;;
		'bdcs autoscale') words='--once --dry-run --json --interval --config --data --store --log-level --help' ;;
		'bdcs schema') words='--config --data --store --log-level --help' ;;
		'bdcs copy-store') words='--last --json --config --data --store --log-level --help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if [[ $files && $cur != -* ]]; then
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen "-$files" -- "$cur")
		compopt -o filenames 2>/dev/null
	fi
}
complete -F _bdcs bdcs
