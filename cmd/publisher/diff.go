package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

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

// effects writes what a command changes where: of a key that changes more than once, the first and the last value. Environments in
// which the same changes stand together.
func effects(list []ledger.Effect) string {
	var order []string // of the differences
	where := map[string][]string{}
	for _, environment := range byEnvironment(list) {
		var b strings.Builder
		for _, e := range environment {
			if !bytes.Equal(e.Before, e.After) {
				writeDiff(&b, "  ", e.Key, e.Before, e.After)
			}
		}
		if where[b.String()] == nil {
			order = append(order, b.String())
		}
		where[b.String()] = append(where[b.String()], environment[0].Environment)
	}
	var out strings.Builder
	for _, difference := range order {
		out.WriteString(strings.Join(where[difference], ", ") + "\n" + difference)
	}
	return out.String()
}

// byEnvironment is the net effect on each environment, in the order in which they come.
func byEnvironment(list []ledger.Effect) (out [][]ledger.Effect) {
	environment, place := map[string]int{}, map[[2]string]int{}
	for _, e := range list {
		at, known := environment[e.Environment]
		if !known {
			at = len(out)
			environment[e.Environment] = at
			out = append(out, nil)
		}
		key := [2]string{e.Environment, e.Key}
		if i, again := place[key]; again {
			out[at][i].After = e.After
			continue
		}
		place[key] = len(out[at])
		out[at] = append(out[at], e)
	}
	return out
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

// maxValue is how many characters of a value are shown.
const maxValue = 400

// value is a value for people; a secret is its reference, and of a long one the beginning and the size are shown.
func value(v json.RawMessage) string {
	if ref, secret, err := events.ParseSecretRef(v); secret && err == nil {
		if ref.Version != "" {
			return plain("secret " + ref.Ref + " version " + ref.Version)
		}
		return plain("secret " + ref.Ref)
	}
	if short := []rune(string(v[:min(len(v), (maxValue+1)*utf8.UTFMax)])); len(short) > maxValue {
		return plain(string(short[:maxValue])) + fmt.Sprintf("…(%d bytes)", len(v))
	}
	return plain(string(v))
}
