// Package changefile reads what an author proposes: a change file in YAML or JSON, or the quick form of the command line.
//
// Guarantees: what is wrong in a file is said with line and column, and nothing of it is taken; a value means the same as JSON or
// is refused; what the command line says replaces what the file says. It checks the shape of names and values, not whether they
// are there: internal/ledger decides that.
package changefile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// APIVersion and Kind begin a change file.
const (
	APIVersion = "lockstep/v1"
	Kind       = "Change"
)

const (
	maxText   = 4096      // bytes of one text
	maxValue  = 512 << 10 // bytes of one value: more fits no release
	maxWithin = 365 * 24 * time.Hour
)

// Said is what the command line says of a change; it replaces what a file says.
type Said struct {
	Reason string
	Ticket string
	Within time.Duration
	Source *events.Provenance
}

// file is a change file; the tags are its format.
type file struct {
	APIVersion text    `yaml:"apiVersion"`
	Kind       text    `yaml:"kind"`
	Reason     text    `yaml:"reason"`
	Ticket     text    `yaml:"ticket"`
	Within     within  `yaml:"within"`
	Source     *source `yaml:"source"`
	Edits      []edit  `yaml:"edits"`
}

type source struct {
	Repository text `yaml:"repository"`
	Commit     text `yaml:"commit"`
	Build      text `yaml:"build"`
}

type edit struct {
	Environments []pattern               `yaml:"environments"`
	Set          map[string]config.Value `yaml:"set"`
	Delete       []key                   `yaml:"delete"`
}

// Parse reads a change file. Errors about the file are *config.Error, others *ledger.Error of KindInvalid.
func Parse(name string, data []byte, said Said) (ledger.Propose, error) {
	var f file
	err := config.Decode(name, data, &f)
	if (err != nil || f.Kind != Kind) && registry.IsManifest(name, data) {
		return ledger.Propose{}, at(name, 1, 1, "this is a manifest, and no change file: propose the whole directory that it belongs to, with -f DIR")
	}
	if err != nil {
		return ledger.Propose{}, err
	}
	if f.APIVersion != APIVersion || f.Kind != Kind {
		return ledger.Propose{}, at(name, 1, 1, "a change file begins with apiVersion: %s and kind: %s; this one has %q and %q", APIVersion, Kind, f.APIVersion, f.Kind)
	}
	p := ledger.Propose{Reason: string(f.Reason), Ticket: string(f.Ticket), Within: int64(time.Duration(f.Within) / time.Second)}
	if s := f.Source; s != nil {
		p.Source = &events.Provenance{Repository: string(s.Repository), Commit: string(s.Commit), Build: string(s.Build)}
	}
	for i, e := range f.Edits {
		edit, err := e.read(name, i+1)
		if err != nil {
			return ledger.Propose{}, err
		}
		p.Edits = append(p.Edits, edit)
	}
	if len(p.Edits) == 0 {
		return ledger.Propose{}, at(name, 1, 1, "there are no edits: name environments and what is set or deleted there under edits")
	}
	return said.Complete(p)
}

func (e edit) read(name string, number int) (ledger.Edit, error) {
	out := ledger.Edit{Set: map[string]json.RawMessage{}}
	for _, p := range e.Environments {
		out.Environments = append(out.Environments, string(p))
	}
	for _, k := range e.Delete {
		if v, both := e.Set[string(k)]; both {
			return out, at(name, v.Line, v.Column, "%s is both set and deleted", k)
		}
		out.Delete = append(out.Delete, string(k))
	}
	for _, k := range slices.Sorted(maps.Keys(e.Set)) {
		v := e.Set[k]
		if err := check(k, v.JSON); err != nil {
			return out, at(name, v.Line, v.Column, "%v", err)
		}
		out.Set[k] = v.JSON
	}
	switch {
	case len(out.Environments) == 0:
		return out, at(name, 1, 1, "edit %d names no environments", number)
	case len(out.Set)+len(out.Delete) == 0:
		return out, at(name, 1, 1, "edit %d sets and deletes nothing", number)
	}
	return out, nil
}

// Quick is the change of the command line: each of set is KEY=VALUE, where VALUE is JSON if it can be read as JSON and a text
// otherwise, or KEY:=JSON. Errors are *ledger.Error of KindInvalid.
func Quick(environments, set, deleted []string, said Said) (ledger.Propose, error) {
	e := ledger.Edit{Environments: environments, Set: map[string]json.RawMessage{}, Delete: deleted}
	for _, name := range environments {
		if err := new(pattern).UnmarshalText([]byte(name)); err != nil {
			return ledger.Propose{}, invalid("", "--env: %v", err)
		}
	}
	for _, k := range deleted {
		if err := registry.CheckKey(k); err != nil {
			return ledger.Propose{}, invalid("", "--delete: %v", err)
		}
	}
	for _, assignment := range set {
		k, value, err := assigned(assignment)
		if err != nil {
			return ledger.Propose{}, err
		}
		if _, twice := e.Set[k]; twice {
			return ledger.Propose{}, invalid("", "--set: %s is set twice", k)
		}
		e.Set[k] = value
	}
	switch {
	case len(e.Environments) == 0:
		return ledger.Propose{}, invalid("name one with --env, as in --env prod-eu or --env 'prod-*'", "no environment is named")
	case len(e.Set)+len(e.Delete) == 0:
		return ledger.Propose{}, invalid("use --set KEY=VALUE, --delete KEY, or -f FILE", "nothing is set or deleted")
	}
	return said.Complete(ledger.Propose{Edits: []ledger.Edit{e}})
}

func assigned(assignment string) (string, json.RawMessage, error) {
	k, text, found := strings.Cut(assignment, "=")
	if !found {
		return "", nil, invalid("write it as in variable/log-level=debug", "--set: %q has no value", clip(assignment))
	}
	k, forced := strings.CutSuffix(k, ":")
	value := json.RawMessage(text)
	if !json.Valid(value) {
		if forced {
			return "", nil, invalid("put it in quotes that your shell leaves alone, or write = for a text", "--set: the value of %s is no JSON", clip(k))
		}
		var err error
		if value, err = events.Encode(text); err != nil {
			return "", nil, invalid("", "--set: %v", err)
		}
	}
	if err := check(k, value); err != nil {
		return "", nil, invalid("", "--set: %v", err)
	}
	return k, value, nil
}

// check says whether a value may be the value of a resource. It never shows the value.
func check(k string, value json.RawMessage) error {
	if err := registry.CheckKey(k); err != nil {
		return err
	}
	if len(value) > maxValue {
		return fmt.Errorf("%s has %d bytes; at most %d fit a release: keep it elsewhere and refer to it", k, len(value), maxValue)
	}
	canonical, err := events.Canonical(value)
	if err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	if string(canonical) == "null" {
		return fmt.Errorf("%s has no value: write one, or name the resource under delete", k)
	}
	if err := events.CheckValue(k, canonical); err != nil {
		return fmt.Errorf("%s: %w", k, err)
	}
	return nil
}

// Complete puts what was said on the command line over what the file says. Errors are *ledger.Error of KindInvalid.
func (s Said) Complete(p ledger.Propose) (ledger.Propose, error) {
	if s.Reason != "" {
		p.Reason = s.Reason
	}
	if s.Ticket != "" {
		p.Ticket = s.Ticket
	}
	if s.Within != 0 {
		var w within
		if err := w.UnmarshalText([]byte(s.Within.String())); err != nil {
			return p, invalid("", "--within: %v", err)
		}
		p.Within = int64(s.Within / time.Second)
	}
	if s.Source != nil {
		p.Source = s.Source
	}
	if strings.TrimSpace(p.Reason) == "" {
		return p, invalid("say why with -m", "the reason is missing")
	}
	return p, nil
}

// ParseSource reads repository@commit#build, of which commit and build may be missing.
func ParseSource(s string) (*events.Provenance, error) {
	rest, build, _ := cutLast(s, "#")
	repository, commit, _ := cutLast(rest, "@")
	if repository == "" {
		return nil, invalid("write it as in github.com/acme/shop@4f2c9d1#118", "--source: %q names no repository", clip(s))
	}
	return &events.Provenance{Repository: repository, Commit: commit, Build: build}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func at(name string, line, column int, format string, args ...any) error {
	return &config.Error{File: name, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}

func invalid(next, format string, args ...any) error {
	return &ledger.Error{Kind: ledger.KindInvalid, Message: fmt.Sprintf(format, args...), Next: next}
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
