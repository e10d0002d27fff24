package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A SecretRef is the value of a secret, or of a part of any other value: a reference that only the agent resolves, when it
// applies: {"$secret": {"ref": "env://CRM_TOKEN"}} or {"$secret": {"ref": "file:///run/secrets/crm"}}.
type SecretRef struct {
	Secret *struct {
		Ref string `json:"ref"`
	} `json:"$secret"`
}

// ParseSecretRef reads a value that is a secret reference; ok is false for any other value.
func ParseSecretRef(value json.RawMessage) (ref string, ok bool, err error) {
	var object map[string]json.RawMessage
	if len(value) == 0 || value[0] != '{' || json.Unmarshal(value, &object) != nil || object["$secret"] == nil {
		return "", false, nil
	}
	var s SecretRef
	if err := DecodeStrict(value, &s); err != nil || s.Secret == nil {
		return "", true, fmt.Errorf(`a secret is written {"$secret": {"ref": "env://NAME"}}, have %s`, clip(string(value)))
	}
	scheme, rest, found := strings.Cut(s.Secret.Ref, "://")
	if !found || rest == "" || (scheme != "env" && scheme != "file") {
		return "", true, fmt.Errorf("the secret reference %q is neither env://NAME nor file:///PATH", clip(s.Secret.Ref))
	}
	return s.Secret.Ref, true, nil
}

// CheckValue says whether a canonical value may be the value of a resource: secrets are references, everywhere.
func CheckValue(key string, value json.RawMessage) error {
	_, isRef, err := ParseSecretRef(value)
	if err != nil {
		return err
	}
	if strings.HasPrefix(key, "secret/") && !isRef {
		return errors.New(`a secret's value is a reference, as in {"$secret": {"ref": "env://CRM_TOKEN"}}; the value itself never leaves the agent's host`)
	}
	return nil
}
