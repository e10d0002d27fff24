package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth is how deep a JSON value may be nested; the recursion of every reader stays bounded.
	maxDepth = 64
	// maxPayloadDepth leaves room for what an entry or a release puts around values and acks of maxDepth.
	maxPayloadDepth = maxDepth + 16
)

// CheckJSON says whether b is one JSON value that Canonical accepts.
func CheckJSON(b []byte) error { return checkJSON(b, maxDepth) }

func checkJSON(b []byte, depth int) error {
	if !utf8.Valid(b) {
		return errors.New("the text is not valid UTF-8")
	}
	if !json.Valid(b) {
		var discard json.RawMessage
		return fmt.Errorf("the text is not JSON: %w", json.Unmarshal(b, &discard))
	}
	return (&checker{text: b, depth: depth}).value()
}

// A checker walks a text that is known to be JSON.
type checker struct {
	text  []byte
	i     int // of the next byte
	depth int // levels left
	path  []step
	keys  [][]byte // of the objects around i, from the outermost on
}

type step struct {
	key   []byte // nil in arrays
	index int
}

func (c *checker) value() error {
	if c.depth < 0 {
		return c.errorf("nested too deep")
	}
	switch c.peek() {
	case '{':
		return c.object()
	case '[':
		return c.array()
	case '"':
		_, err := c.string()
		return err
	case 't', 'n':
		c.i += len("true")
	case 'f':
		c.i += len("false")
	default:
		start := c.i
		for c.i < len(c.text) && strings.IndexByte("+-.0123456789Ee", c.text[c.i]) >= 0 {
			c.i++
		}
		if err := checkNumber(c.text[start:c.i]); err != nil {
			return c.errorf("%w", err)
		}
	}
	return nil
}

func (c *checker) object() error {
	first := len(c.keys)
	err := c.items('}', func(int) (step, error) {
		key, err := c.string()
		c.keys = append(c.keys, key)
		c.peek()
		c.i++ // ':'
		return step{key: key}, err
	})
	if err != nil {
		return err
	}
	keys := c.keys[first:]
	slices.SortFunc(keys, bytes.Compare)
	for i := 1; i < len(keys); i++ {
		if bytes.Equal(keys[i-1], keys[i]) {
			return c.errorf("the key %q stands twice", keys[i])
		}
	}
	c.keys = c.keys[:first]
	return nil
}

func (c *checker) array() error {
	return c.items(']', func(index int) (step, error) { return step{index: index}, nil })
}

// items walks the values up to the closing byte; name reads what stands before each.
func (c *checker) items(closing byte, name func(index int) (step, error)) error {
	c.i++
	c.depth--
	for index := 0; c.peek() != closing; index++ {
		if c.text[c.i] == ',' {
			c.i++
			c.peek()
		}
		at, err := name(index)
		if err != nil {
			return err
		}
		c.path = append(c.path, at)
		if err := c.value(); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	c.i++
	c.depth++
	return nil
}

// string reads a string and returns its content.
func (c *checker) string() ([]byte, error) {
	start, escaped := c.i, false
	for c.i++; c.text[c.i] != '"'; c.i++ {
		if c.text[c.i] == '\\' {
			escaped = true
			if loneSurrogate(c.text[c.i:]) {
				return nil, c.errorf("lone surrogate escape at offset %d", c.i)
			}
			c.i++
			if c.text[c.i] == 'u' && isHighSurrogate(hex4(c.text[c.i+1:])) {
				c.i += len(`uD800\`)
			}
		}
	}
	c.i++
	if !escaped {
		return c.text[start+1 : c.i-1], nil
	}
	var content string
	if err := json.Unmarshal(c.text[start:c.i], &content); err != nil {
		return nil, c.errorf("%w", err)
	}
	return []byte(content), nil
}

// peek skips white space and returns the next byte.
func (c *checker) peek() byte {
	for strings.IndexByte(" \t\r\n", c.text[c.i]) >= 0 {
		c.i++
	}
	return c.text[c.i]
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

// errorf names the place by its JSON pointer (RFC 6901).
func (c *checker) errorf(format string, args ...any) error {
	at := "the value"
	if len(c.path) > 0 {
		at = ""
	}
	for _, s := range c.path {
		if s.key != nil {
			at += "/" + pointerEscape.Replace(string(s.key))
		} else {
			at += "/" + strconv.Itoa(s.index)
		}
	}
	return fmt.Errorf("%s: %w", clip(at), fmt.Errorf(format, args...))
}

// loneSurrogate says whether b begins with a \u escape of a surrogate without its other half: readers replace them differently.
func loneSurrogate(b []byte) bool {
	if b[1] != 'u' {
		return false
	}
	unit := hex4(b[2:])
	if isHighSurrogate(unit) {
		return b[6] != '\\' || b[7] != 'u' || !isLowSurrogate(hex4(b[8:]))
	}
	return isLowSurrogate(unit)
}

func isHighSurrogate(unit uint64) bool { return unit >= 0xD800 && unit <= 0xDBFF }
func isLowSurrogate(unit uint64) bool  { return unit >= 0xDC00 && unit <= 0xDFFF }

// hex4 reads the four digits of a \u escape.
func hex4(b []byte) uint64 {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 32)
	return n
}

const (
	maxSafeInteger = 1<<53 - 1
	maxNumber      = 64 // characters of a number
)

// checkNumber says whether a JSON number means the same to every reader: integers within ±(2^53−1), and no more digits than a
// double keeps.
func checkNumber(literal []byte) error {
	if len(literal) <= 15 && !bytes.ContainsAny(literal, ".eE") {
		return nil
	}
	if len(literal) > maxNumber {
		return fmt.Errorf("the number %s has more than %d characters: write it as a string", clip(string(literal)), maxNumber)
	}
	f, err := strconv.ParseFloat(string(literal), 64)
	if err != nil {
		return fmt.Errorf("the number %s is out of range: write it as a string", literal)
	}
	digits, exponent := decimal(string(literal))
	if digits == "" {
		return nil
	}
	if exponent >= len(digits) && (f > maxSafeInteger || f < -maxSafeInteger) {
		return fmt.Errorf("the integer %s is beyond ±(2^53−1): write it as a string", literal)
	}
	keptDigits, keptExponent := decimal(strconv.FormatFloat(f, 'e', -1, 64))
	if digits != keptDigits || exponent != keptExponent {
		return fmt.Errorf("the number %s has more digits than a double keeps: write it as a string", literal)
	}
	return nil
}

// decimal takes a number apart: its absolute value is 0.digits × 10^exponent, and digits neither begin nor end with zero. Zero
// has no digits.
func decimal(literal string) (digits string, exponent int) {
	mantissa, e, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(literal, "-")), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	exponent = len(digits) - len(fraction)
	if digits = strings.TrimRight(digits, "0"); digits == "" {
		return "", 0
	}
	n, _ := strconv.Atoi(e) // absent: 0; of a number in range it is small
	return digits, exponent + n
}
