package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// oneLine is how many characters of before and after stand on one line.
const oneLine = 90

// diff writes what operations change, each with its symbol: + added, - deleted, ~ changed.
func diff(operations []fleet.OperationView, indent string) string {
	var b strings.Builder
	for _, op := range operations {
		writeDiff(&b, indent, op.Key, op.Before, op.After)
	}
	return b.String()
}

// effects writes what a command changes, per environment: of a key that changes more than once, the first and the last value.
func effects(list []ledger.Effect) string {
	var net []ledger.Effect
	place := map[[2]string]int{}
	for _, e := range list {
		id := [2]string{e.Environment, e.Key}
		if i, again := place[id]; again {
			net[i].After = e.After
		} else {
			place[id] = len(net)
			net = append(net, e)
		}
	}
	var b strings.Builder
	for i, e := range net {
		if i == 0 || net[i-1].Environment != e.Environment {
			b.WriteString(e.Environment + "\n")
		}
		if !bytes.Equal(e.Before, e.After) {
			writeDiff(&b, "  ", e.Key, e.Before, e.After)
		}
	}
	return b.String()
}

func writeDiff(b *strings.Builder, indent, name string, before, after json.RawMessage) {
	name = plain(name)
	was, is := value(before), value(after)
	switch {
	case len(before) == 0:
		b.WriteString(indent + "+ " + name + ": " + is + "\n")
		return
	case len(after) == 0:
		b.WriteString(indent + "- " + name + ": " + was + "\n")
		return
	}
	from, to, ok := objects(before, after)
	if !ok {
		if len(was)+len(is) <= oneLine {
			b.WriteString(indent + "~ " + name + ": " + was + " → " + is + "\n")
		} else {
			b.WriteString(indent + "~ " + name + ":\n" + indent + "    - " + was + "\n" + indent + "    + " + is + "\n")
		}
		return
	}
	b.WriteString(indent + "~ " + name + ":\n")
	keys := maps.Clone(from)
	maps.Copy(keys, to)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !bytes.Equal(from[key], to[key]) {
			writeDiff(b, indent+"    ", key, from[key], to[key])
		}
	}
}

// objects are before and after as objects, where both are and neither is a secret.
func objects(before, after json.RawMessage) (from, to map[string]json.RawMessage, ok bool) {
	for _, v := range []json.RawMessage{before, after} {
		if _, secret, _ := events.ParseSecretRef(v); secret {
			return nil, nil, false
		}
	}
	ok = json.Unmarshal(before, &from) == nil && json.Unmarshal(after, &to) == nil && from != nil && to != nil
	return from, to, ok
}

// value is a value for people; a secret is its reference.
func value(v json.RawMessage) string {
	if ref, secret, err := events.ParseSecretRef(v); secret && err == nil {
		return "secret " + plain(ref)
	}
	return plain(string(v))
}
