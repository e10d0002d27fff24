// Package exchange takes an environment's values over from the files of other tools, writes them for other tools, and carries whole
// ledgers' sources and states from one publisher to another.
//
// Guarantees: what a format takes comes back the same (rendering, exporting, importing and rendering again is the identity); what a
// format cannot hold, or a file says in a way that readers understand differently, is left out by name or refused with its line, and
// never changed silently. It is pure: files come and go as bytes.
//
// It finds no secrets: those who call it ask internal/secretscan before anything is kept.
package exchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Values are resources by key, canonical JSON.
type Values map[string]json.RawMessage

// Formats.
const (
	Flagd     = "flagd"
	Dotenv    = "dotenv"
	ConfigMap = "configmap"
	Tfvars    = "tfvars"
	JSON      = "json"
)

// Exports are the formats that are written, Imports those that are read.
var (
	Exports = []string{Flagd, Dotenv, ConfigMap, Tfvars, JSON}
	Imports = []string{Flagd, Dotenv, JSON, ConfigMap}
)

// Holds says whether a format has a place for a resource.
func Holds(format, key string) bool {
	switch format {
	case JSON:
		return true
	case Flagd:
		return isFlag(key)
	}
	return strings.HasPrefix(key, "variable/")
}

// Export writes the values of an environment for another tool. What the format has no place for is left out, and named.
func Export(format, environment string, values Values) (file []byte, leftOut []string, err error) {
	held := Values{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if Holds(format, key) {
			held[key] = values[key]
		} else {
			leftOut = append(leftOut, key)
		}
	}
	switch format {
	case Flagd:
		file, err = writeFlagd(held)
	case Dotenv:
		file, err = writeDotenv(held)
	case ConfigMap:
		file, err = writeConfigMap(environment, held)
	case Tfvars:
		var references []string
		file, references, err = writeTfvars(held)
		leftOut = append(leftOut, references...)
	case JSON:
		file, err = indented(held)
	default:
		err = fmt.Errorf("there is no format %q; there are %s", format, strings.Join(Exports, ", "))
	}
	return file, leftOut, err
}

// Import reads the values of an environment from another tool's file. Notes say what people should know about it. Errors that have a
// place are *config.Error.
func Import(format, name string, data []byte) (values Values, notes []string, err error) {
	switch format {
	case Flagd:
		values, notes, err = readFlagd(data)
	case Dotenv:
		values, notes, err = readDotenv(name, string(data))
	case ConfigMap:
		values, err = readConfigMap(name, data)
	case JSON:
		values, err = readJSON(data)
	default:
		err = fmt.Errorf("there is no format %q; there are %s", format, strings.Join(Imports, ", "))
	}
	if err != nil {
		return nil, nil, err
	}
	if len(values) == 0 {
		return nil, nil, fmt.Errorf("%s holds nothing to import as %s", name, format)
	}
	return values, notes, nil
}

// indented is JSON for people.
func indented(v any) ([]byte, error) {
	b, err := events.Encode(v)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, b, "", "  ")
	out.WriteByte('\n')
	return out.Bytes(), err
}

// put adds a value under a key, both checked.
func (v Values) put(key string, value []byte) error {
	if err := events.CheckKey(key); err != nil {
		return fmt.Errorf("%w; rename it in the file", err)
	}
	canonical, err := events.Canonical(value)
	if err == nil {
		err = events.CheckValue(key, canonical)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if _, twice := v[key]; twice {
		return fmt.Errorf("%s stands twice", key)
	}
	v[key] = canonical
	return nil
}

// readJSON reads one object: its members are resources by key, or, where a name has no kind, variables.
func readJSON(data []byte) (Values, error) {
	members, err := object(data)
	if err != nil {
		return nil, err
	}
	values := Values{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		key := name
		if !strings.Contains(name, "/") {
			key = "variable/" + name
		}
		if err := values.put(key, members[name]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// object reads one JSON object strictly.
func object(data []byte) (map[string]json.RawMessage, error) {
	data = bytes.TrimSpace(data)
	if err := events.CheckJSON(data); err != nil {
		return nil, fmt.Errorf("this is not the JSON that is meant: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil || members == nil {
		return nil, errors.New("this is no JSON object")
	}
	return members, nil
}
