package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gowebpki/jcs"
)

// Canonical checks a JSON value and returns its canonical form (RFC 8785). It refuses what would not mean the same everywhere:
// duplicate keys, invalid UTF-8, lone surrogates, integers beyond ±(2^53−1), numbers that lose digits, and nesting beyond 64 levels.
func Canonical(value []byte) (json.RawMessage, error) {
	if isPlain(value) {
		return bytes.Clone(value), nil
	}
	return canonical(value)
}

func canonical(value []byte) (json.RawMessage, error) {
	if err := CheckJSON(value); err != nil {
		return nil, err
	}
	// The library takes objects and arrays only, so that a scalar goes in as the one item of an array.
	wrapped := make([]byte, 0, len(value)+2)
	wrapped = append(append(append(wrapped, '['), value...), ']')
	out, err := jcs.Transform(wrapped)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out[1 : len(out)-1], nil
}

// Encode writes v as compact JSON with the struct's field order and no HTML escapes: the one encoder of every payload.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeStrict reads into v what Encode wrote of it, and nothing else: no unknown field, no other spelling of a name, no null for
// a value, no white space, no other order. An unknown field is ReasonUpgradeNeeded, everything else ReasonMalformed.
func DecodeStrict(b []byte, v any) error {
	if err := decodeKnown(b, v); err != nil {
		return err
	}
	return wroteBack(b, v)
}

// decodeKnown reads one JSON value into v and refuses unknown fields. It is only half of strict: encoding/json takes "Ledger" for
// ledger and null for anything, so that the caller compares with what would have been written.
func decodeKnown(b []byte, v any) error {
	if err := checkJSON(b, maxPayloadDepth); err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
	return decodeChecked(b, v)
}

// decodeChecked is decodeKnown for a part of what was checked as a whole.
func decodeChecked(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if strings.HasPrefix(err.Error(), "json: unknown field") {
			return Errorf(ReasonUpgradeNeeded, "%w: this version does not know it; upgrade this program", err)
		}
		return Errorf(ReasonMalformed, "%w", err)
	}
	return nil
}

// wroteBack says whether b is how v is written.
func wroteBack(b []byte, v any) error {
	again, err := Encode(v)
	if err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
	return sameBytes(b, again)
}

func sameBytes(read, written []byte) error {
	if bytes.Equal(read, written) {
		return nil
	}
	at := 0
	for at < len(read) && at < len(written) && read[at] == written[at] {
		at++
	}
	return Errorf(ReasonMalformed, "offset %d: it is not written as this contract writes it: have %q, want %q", at, clip(string(read[at:])), clip(string(written[at:])))
}
