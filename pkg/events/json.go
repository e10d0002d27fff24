package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gowebpki/jcs"
)

// maxDepth is how deep a JSON value may be nested; the recursion of every reader stays bounded.
const maxDepth = 64

// Canonical checks a JSON value and returns its canonical form (RFC 8785). It refuses what would not mean the same everywhere:
// duplicate keys, invalid UTF-8, lone surrogates, integers beyond ±(2^53−1), numbers that lose digits, and nesting beyond 64 levels.
func Canonical(value []byte) (json.RawMessage, error) {
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

// CheckJSON says whether b is one JSON value that Canonical accepts.
func CheckJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("the text is not valid UTF-8")
	}
	if err := checkEscapes(b); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := checkValue(dec, "", 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows the value at offset %d", dec.InputOffset())
	}
	return nil
}

func checkValue(dec *json.Decoder, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: nested deeper than %d levels", at(path), maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s: %w", at(path), err)
	}
	switch t := token.(type) {
	case json.Number:
		if err := CheckNumber(t.String()); err != nil {
			return fmt.Errorf("%s: %w", at(path), err)
		}
	case json.Delim:
		if t == '{' {
			err = checkObject(dec, path, depth)
		} else {
			for i := 0; err == nil && dec.More(); i++ {
				err = checkValue(dec, path+"/"+strconv.Itoa(i), depth+1)
			}
		}
		if err != nil {
			return err
		}
		if _, err := dec.Token(); err != nil {
			return fmt.Errorf("%s: %w", at(path), err)
		}
	}
	return nil
}

func checkObject(dec *json.Decoder, path string, depth int) error {
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%s: %w", at(path), err)
		}
		key := token.(string) // the decoder admits nothing else here
		if seen[key] {
			return fmt.Errorf("%s: the key %q stands twice", at(path), key)
		}
		seen[key] = true
		if err := checkValue(dec, path+"/"+pointerEscape.Replace(key), depth+1); err != nil {
			return err
		}
	}
	return nil
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func at(path string) string {
	if path == "" {
		return "the value"
	}
	return path
}

// checkEscapes refuses \u escapes of lone surrogates: readers replace them differently.
func checkEscapes(b []byte) error {
	for i := 0; i+1 < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		if b[i+1] != 'u' {
			i++
			continue
		}
		unit, ok := hex4(b, i+2)
		if !ok || unit < 0xD800 || unit > 0xDFFF {
			i += 5
			continue
		}
		low, ok := hex4(b, i+8)
		if unit > 0xDBFF || !ok || b[i+6] != '\\' || b[i+7] != 'u' || low < 0xDC00 || low > 0xDFFF {
			return fmt.Errorf("lone surrogate escape at offset %d", i)
		}
		i += 11
	}
	return nil
}

func hex4(b []byte, i int) (uint64, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[i:i+4]), 16, 32)
	return n, err == nil
}

const maxSafeInteger = 1<<53 - 1

// CheckNumber says whether a JSON number means the same to every reader: integers within ±(2^53−1), and no more digits than a
// double keeps.
func CheckNumber(literal string) error {
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || len(literal) > 64 {
		return fmt.Errorf("the number %s is out of range: write it as a string", clip(literal))
	}
	if f == 0 {
		if strings.Trim(strings.SplitN(strings.ToLower(literal), "e", 2)[0], "-0.") != "" {
			return fmt.Errorf("the number %s is too small: write it as a string", literal)
		}
		return nil
	}
	exact, _ := new(big.Rat).SetString(literal)
	kept, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
	if exact.IsInt() && (f > maxSafeInteger || f < -maxSafeInteger) {
		return fmt.Errorf("the integer %s is beyond ±(2^53−1): write it as a string", literal)
	}
	if exact.Cmp(kept) != 0 {
		return fmt.Errorf("the number %s has more digits than a double keeps: write it as a string", literal)
	}
	return nil
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

// DecodeStrict reads one JSON value into v and refuses unknown fields, duplicate keys and trailing bytes. An unknown field is
// ReasonUpgradeNeeded, everything else ReasonMalformed.
func DecodeStrict(b []byte, v any) error {
	if err := CheckJSON(b); err != nil {
		return Errorf(ReasonMalformed, "%w", err)
	}
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
