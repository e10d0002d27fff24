package exchange

import (
	"encoding/json"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Flat formats hold texts. A value that is a text is written as it is, a secret reference as secret+REF, and everything else as JSON,
// which the file says beside it.

const (
	referencePrefix = "secret+"
	versionMark     = "?version="
)

// flat is a value as a text, and whether the text is its JSON.
func flat(value json.RawMessage) (text string, isJSON bool) {
	if ref, isRef, err := events.ParseSecretRef(value); isRef && err == nil {
		text = referencePrefix + ref.Ref
		if ref.Version != "" {
			text += versionMark + ref.Version
		}
		if back, err := unflat(text, false); err == nil && string(back) == string(value) {
			return text, false
		}
		return string(value), true
	}
	if json.Unmarshal(value, &text) != nil || string(value) == "null" {
		return string(value), true
	}
	if strings.HasPrefix(text, referencePrefix) {
		return string(value), true
	}
	return text, false
}

// unflat is the value that a text stands for, canonical.
func unflat(text string, isJSON bool) (json.RawMessage, error) {
	if isJSON {
		return events.Canonical([]byte(text))
	}
	if reference, ok := strings.CutPrefix(text, referencePrefix); ok {
		secret := map[string]any{}
		reference, version, versioned := strings.Cut(reference, versionMark)
		secret["ref"] = reference
		if versioned {
			secret["version"] = version
		}
		b, err := events.Encode(map[string]any{"$secret": secret})
		if err != nil {
			return nil, err
		}
		if _, _, err := events.ParseSecretRef(b); err == nil {
			return events.Canonical(b)
		}
	}
	b, err := events.Encode(text)
	if err != nil {
		return nil, err
	}
	return events.Canonical(b)
}
