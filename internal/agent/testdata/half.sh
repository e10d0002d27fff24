#!/bin/sh
# An exec connector that does the first half of an apply and kills the agent then.
#
#   half.sh PROGRAM DIRECTORY
set -eu
request=$(cat)
case $request in
*'"verb":"apply"'*)
	printf '%s\n' "$request" | sed '/^"set":{/{n;q;}' | "$1" "$2"
	kill -9 $PPID
	;;
*) printf '%s\n' "$request" | "$1" "$2" ;;
esac
