package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A SecretRef is the value of a secret, or of a part of any other value: a reference that only the agent resolves, when it
// applies: {"$secret": {"ref": "env://CRM_TOKEN"}} or {"$secret": {"ref": "file:///run/secrets/crm", "version": "7"}}. Another version
// is another value: it is released, and the agent resolves the reference anew.
type SecretRef struct {
	Ref     string `json:"ref"`
	Version string `json:"version,omitempty"`
}

// maxVersion bounds the version of a secret reference in bytes.
const maxVersion = 128

// ParseSecretRef reads a value that is a secret reference; ok is false for any other value. Errors do not quote the value: it may be
// the secret itself, in the wrong place.
func ParseSecretRef(value json.RawMessage) (ref SecretRef, ok bool, err error) {
	var object map[string]json.RawMessage
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &object) != nil || object["$secret"] == nil {
		return SecretRef{}, false, nil
	}
	var s struct {
		Secret *SecretRef `json:"$secret"`
	}
	if err := DecodeStrict(value, &s); err != nil || s.Secret == nil {
		return SecretRef{}, true, errors.New(`a secret is written {"$secret": {"ref": "env://NAME"}}, with a "version" or without, and nothing else`)
	}
	if len(s.Secret.Version) > maxVersion {
		return SecretRef{}, true, fmt.Errorf("the version of the secret reference has more than %d bytes", maxVersion)
	}
	scheme, rest, found := strings.Cut(s.Secret.Ref, "://")
	if !found || rest == "" || (scheme != "env" && (scheme != "file" || rest[0] != '/')) {
		return SecretRef{}, true, errors.New("the secret reference is neither env://NAME nor file:///PATH")
	}
	return *s.Secret, true, nil
}

// CheckValue says whether a canonical value may be the value of a resource: it is there, and secrets in it are references, however
// deep they lie.
func CheckValue(key string, value json.RawMessage) error {
	_, isRef, err := ParseSecretRef(value)
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(key, "secret/") && !isRef:
		return errors.New(`a secret's value is a reference, as in {"$secret": {"ref": "env://CRM_TOKEN"}}; the value itself never leaves the agent's host`)
	case string(value) == "null":
		return errors.New("null is no value: delete the resource instead")
	}
	return checkSecrets(value)
}

// checkSecrets says whether every secret reference in a canonical value is well-formed.
func checkSecrets(value json.RawMessage) error {
	if !bytes.Contains(value, []byte(`"$secret"`)) {
		return nil
	}
	if _, isRef, err := ParseSecretRef(value); isRef {
		return err
	}
	var members map[string]json.RawMessage
	var items []json.RawMessage
	switch value[0] {
	case '{':
		if err := json.Unmarshal(value, &members); err != nil {
			return err
		}
	case '[':
		if err := json.Unmarshal(value, &items); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if err := checkSecrets(members[name]); err != nil {
			return fmt.Errorf("%s: %w", clip(name), err)
		}
	}
	for i, item := range items {
		if err := checkSecrets(item); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return nil
}
