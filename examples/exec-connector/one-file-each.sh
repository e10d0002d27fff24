#!/bin/sh
# An exec connector in plain sh: it keeps each resource as a JSON text in a file of its own, <directory>/<kind>/<name>.
#
#   connectors:
#   - name: files
#     resources: [variable/*]
#     exec: {command: [./one-file-each.sh, ./values], observes: true}
#
# Requests come one member or list item a line (protocol 1), so that no JSON parser is needed here.
set -eu

dir=${1:?usage: one-file-each.sh DIRECTORY}
verb='' section='' comma=''

put() { # put KEY VALUE
	mkdir -p "$dir/${1%/*}"
	printf '%s\n' "$2" >"$dir/$1.new"
	mv -f "$dir/$1.new" "$dir/$1"
}

show() { # show KEY
	if [ -f "$dir/$1" ]; then
		printf '%s"%s":' "$comma" "$1"
		cat "$dir/$1"
		comma=','
	fi
}

while IFS= read -r line; do
	case $line in
	'"protocol":'*)
		if [ "$line" != '"protocol":1,' ]; then
			echo 'this script speaks protocol 1' >&2
			exit 2
		fi
		;;
	'"verb":'*)
		verb=${line#'"verb":"'}
		verb=${verb%'",'}
		case $verb in
		observe) printf '{"values":{' ;;
		apply) ;;
		*)
			echo "unknown verb $verb" >&2
			exit 2
			;;
		esac
		;;
	'"keys":[') section=observe ;;
	'"delete":[') section=delete ;;
	'"set":{') section=set ;;
	']' | '],' | '}' | '},') section='' ;;
	'"'*)
		key=${line#'"'}
		key=${key%%'"'*}
		case $section in
		observe) show "$key" ;;
		delete) rm -f "$dir/$key" ;;
		set)
			value=${line#*'":'}
			put "$key" "${value%,}"
			;;
		esac
		;;
	esac
done

if [ "$verb" = observe ]; then
	echo '}}'
fi
