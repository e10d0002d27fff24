package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/lockstep-dev/lockstep/internal/connector"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// maxSecret is the largest secret in bytes.
const maxSecret = 64 << 10

// Secrets are what secret references may name. References to anything else are refused.
type Secrets struct {
	Env   []string // names of environment variables; * stands for any characters, as in CRM_*
	Files []string // directories whose files may be read
}

// Validate names the field that cannot work.
func (s Secrets) Validate() error {
	for _, pattern := range s.Env {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("env: %q is no pattern such as CRM_*", pattern)
		}
	}
	for _, dir := range s.Files {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("files: %q is not an absolute path", dir)
		}
	}
	return nil
}

// hasSecret says whether a canonical value holds a secret reference anywhere.
func hasSecret(value json.RawMessage) bool { return bytes.Contains(value, []byte(`"$secret"`)) }

// redact is a value for people: references stay, since they are no secrets.
func redact(value json.RawMessage) json.RawMessage {
	out, err := replaceSecrets(value, func(ref string) (string, error) { return "<secret " + ref + ">", nil })
	if err != nil {
		return json.RawMessage(`"<secret>"`)
	}
	return out
}

// resolve puts the secrets into a value. Errors are connector errors with ReasonSecret and never hold a secret.
func (s Secrets) resolve(value json.RawMessage) (json.RawMessage, error) {
	return replaceSecrets(value, s.read)
}

// replaceSecrets replaces every reference in a canonical value by a text.
func replaceSecrets(value json.RawMessage, with func(ref string) (string, error)) (json.RawMessage, error) {
	if !hasSecret(value) {
		return value, nil
	}
	replaced, err := replaceIn(value, with)
	if err != nil {
		return nil, err
	}
	return events.Canonical(replaced)
}

func replaceIn(value json.RawMessage, with func(ref string) (string, error)) (json.RawMessage, error) {
	ref, isRef, err := events.ParseSecretRef(value)
	if err != nil {
		return nil, connector.Permanent(events.ReasonSecret, "%w", err)
	}
	if isRef {
		text, err := with(ref.Ref)
		if err != nil {
			return nil, err
		}
		return events.Encode(text)
	}
	switch value[0] {
	case '{':
		var object map[string]json.RawMessage
		return replaceEach(value, &object, func() (err error) {
			for key, item := range object {
				if object[key], err = replaceIn(item, with); err != nil {
					return err
				}
			}
			return nil
		})
	case '[':
		var list []json.RawMessage
		return replaceEach(value, &list, func() (err error) {
			for i, item := range list {
				if list[i], err = replaceIn(item, with); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return value, nil
}

func replaceEach(value json.RawMessage, into any, replace func() error) (json.RawMessage, error) {
	if err := json.Unmarshal(value, into); err != nil {
		return nil, connector.Permanent(events.ReasonSecret, "a value with a secret reference is not JSON")
	}
	if err := replace(); err != nil {
		return nil, err
	}
	return events.Encode(into)
}

func (s Secrets) read(ref string) (string, error) {
	scheme, rest, _ := strings.Cut(ref, "://")
	if scheme == "env" {
		return s.readEnv(ref, rest)
	}
	return s.readFile(ref, rest)
}

func (s Secrets) readEnv(ref, name string) (string, error) {
	for _, pattern := range s.Env {
		if match, _ := path.Match(pattern, name); match {
			value, set := os.LookupEnv(name)
			if !set {
				return "", connector.Transient(events.ReasonSecret, "%s is not set in the agent's environment", ref)
			}
			return value, nil
		}
	}
	return "", notAllowed(ref, "secrets.env")
}

func (s Secrets) readFile(ref, name string) (string, error) {
	for _, dir := range s.Files {
		inside, err := filepath.Rel(dir, path.Clean(name))
		if err != nil || !filepath.IsLocal(inside) {
			continue
		}
		b, err := readInside(dir, inside)
		if err != nil {
			return "", connector.Transient(events.ReasonSecret, "%s cannot be read: %w", ref, err)
		}
		if len(b) > maxSecret || !utf8.Valid(b) {
			return "", connector.Permanent(events.ReasonSecret, "%s is not UTF-8 text of at most %d bytes", ref, maxSecret)
		}
		return strings.TrimSuffix(string(b), "\n"), nil
	}
	return "", notAllowed(ref, "secrets.files")
}

// readInside reads a file that no link may lead out of the directory.
func readInside(dir, name string) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret+1))
}

func notAllowed(ref, where string) error {
	return connector.Permanent(events.ReasonSecret, "%s is not allowed here: add it to %s in the agent's file", ref, where)
}
